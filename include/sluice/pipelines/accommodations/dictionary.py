"""Data dictionary of the pipeline (docs/tables.md)."""

from sluice.core.dictionary import Collection, Field, iceberg
from sluice.pipelines.accommodations.catalogue import CANDIDATES, CURRENT

_DAG = ("accommodations_consolidate",)
_FRESH = "a minute after a partner's file arrived, 30 minutes at most"

COLLECTIONS = (
    Collection(
        "curated/accommodations",
        "JSON Lines",
        "The winning record of each accommodation of one batch, by `accommodation_id`; at most 500,000 bytes a file",
        "`curated/accommodations/year=YYYY/month=MM/day=DD/output_object-<microseconds since 1970>.jsonl`",
        (
            Field("accommodation_id", "string", "of the accommodation"),
            Field("partner_name", "string", "the partner with the highest priority for it in this batch"),
            Field(
                "accommodation_data",
                "object",
                "data of the partner, every number exactly as written: `accommodation_name`,"
                " `accommodation_address`, `accommodation_geocodes`, `accommodation_city`, and additional fields",
            ),
        ),
        _DAG,
        _FRESH,
        "for ever",
        "day of the batch (UTC)",
    ),
    iceberg(CURRENT, key="`accommodation_id`", written_by=_DAG, fresh=_FRESH),
    iceberg(CANDIDATES, key="`accommodation_id`, `partner_name`", written_by=_DAG, fresh=_FRESH),
    Collection(
        "partner_priority",
        "DynamoDB table",
        "A list of partners, read by every run; written by `sluice partners`",
        "`SLUICE_ACCOMMODATIONS_PRIORITY_TABLE`",
        (
            Field(
                "contentType",
                "S",
                "`PriorityList` (partners that may be used, the best first) or `BlockedList` (partners never used)",
                "partition key",
            ),
            Field("partner_list", "L", "names; of a repeated name the first place counts"),
        ),
        (),
        "the next run",
        "for ever",
    ),
    Collection(
        "accommodations_ledger: files",
        "DynamoDB table",
        "A partner's file that was published",
        "`SLUICE_ACCOMMODATIONS_LEDGER_TABLE`",
        (
            Field("PK", "S", "`object#<address and version of the file>`", "partition key"),
            Field("batch_number", "N", "of the batch that it was published in"),
            Field("TTL", "N", "seconds since 1970 at which DynamoDB deletes the item: 90 days after its publication"),
        ),
        _DAG,
        _FRESH,
        "90 days",
    ),
    Collection(
        "accommodations_ledger: batches",
        "DynamoDB table",
        "The last published batch, and the announced batch",
        "`SLUICE_ACCOMMODATIONS_LEDGER_TABLE`",
        (
            Field("PK", "S", "`#catalogue`", "partition key"),
            Field("number", "N", "of the last published batch"),
            Field("last_microsecond", "N", "last reserved name of an output file, microseconds since 1970"),
            Field(
                "announced",
                "M",
                "`run`, `number`, `first_microsecond`, `at` of the announced batch, which is being published",
            ),
            Field("settled_run", "S", "run that published the last batch"),
            Field("settled_state", "S", "snapshots of the two tables and digest of the lists after that batch"),
        ),
        _DAG,
        _FRESH,
        "for ever",
    ),
)
