"""Data dictionary of the pipeline (docs/tables.md)."""

from sluice.core.dictionary import Collection, Field, iceberg
from sluice.pipelines.modules.storage import RATES

_MODULE = Field("moduleId", "S", "module that sent it", "partition key")
_DAG = ("modules_diagnostics",)
_FRESH = "seconds after the diagnostic arrived, 5 minutes at most"

COLLECTIONS = (
    Collection(
        "message_recv",
        "DynamoDB table",
        "One received message of a module",
        "`SLUICE_MODULES_MESSAGE_TABLE`",
        (_MODULE, Field("timestamp", "N", "of the message, uint64, as the module sent it", "sort key")),
        _DAG,
        _FRESH,
        "for ever: a diagnostic counts from the last reset",
    ),
    Collection(
        "weekly_diagnostic",
        "DynamoDB table",
        "One weekly diagnostic, and the rate that was published for it",
        "`SLUICE_MODULES_DIAGNOSTIC_TABLE`",
        (
            _MODULE,
            Field("timestamp", "N", "of the diagnostic, uint64, as the module sent it", "sort key"),
            Field("attempts", "N", "transmissions since the module was reset, uint32"),
            Field("version", "S", "of two diagnostics of one key the one with the greater version is stored"),
            Field("judged_attempts", "N", "`attempts` that the rate was computed from"),
            Field("judged_reset", "N", "timestamp of the reset; messages after it were counted; 0 without a reset"),
            Field("received", "N", "stored messages from the reset to the diagnostic"),
            Field("success_rate", "N", "100 * received / attempts, percent; missing where the diagnostic was rejected"),
            Field("judged_rule_version", "N", "version of the rule that computed the rate"),
            Field("judged_by", "S", "run that computed the rate; missing in items of version 1.0"),
            Field("judged_at", "S", "when, ISO 8601 in UTC; missing in items of version 1.0"),
        ),
        _DAG,
        _FRESH,
        "for ever",
    ),
    iceberg(
        RATES,
        key="none: a rate published again is an additional row; the last one of (`module`, `timestamp`) is current",
        written_by=_DAG,
        fresh=_FRESH,
    ),
    Collection(
        "success_rate",
        "JSON",
        "One message of the SNS topic: the success rate of a module at a diagnostic",
        "SNS topic `sluice-<environment>-success_rate`",
        (
            Field("moduleid", "string", "the module"),
            Field("timestamp", "integer", "of the diagnostic, uint64"),
            Field("success_rate", "number", "100 * received / attempts, percent, 0 to 100"),
        ),
        _DAG,
        _FRESH,
        "not kept; subscribe to the topic, or read `module_success_rates`",
    ),
)
