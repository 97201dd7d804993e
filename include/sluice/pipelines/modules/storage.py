"""Reads and writes of the pipeline: messages, diagnostics and judgements in DynamoDB; rates in Iceberg.

An item of the diagnostic table has `moduleId`, `timestamp` and `attempts` (docs/pipelines.md), and:

* `version`: of two diagnostics of one key, the one with the greater version is stored;
* `judged_attempts`, `judged_reset`, `received`, `success_rate`, `judged_rule_version`: the `Judgement`, written after
  the rate was published; without `success_rate` if the diagnostic was rejected;
* `judged_by` and `judged_at`: the run that judged it, and when.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sluice.aws import dynamodb
from sluice.aws.tables import commits, row_commits
from sluice.aws.tables.definitions import Column, TableDefinition
from sluice.pipelines.modules.records import MessageKey, ReceivedDiagnostic
from sluice.pipelines.modules.transform import Diagnostic, Due, Judgement, Verdict

if TYPE_CHECKING:
    import pyarrow as pa

RATES = TableDefinition(
    "module_success_rates",
    "Every published success rate; a rate that was published again has several rows, of which the last one is current",
    (
        Column("module", "string", "that sent the diagnostic"),
        Column("timestamp", "decimal(20,0)", "of the diagnostic, as the module sent it"),
        Column("attempts", "long", "transmissions since the reset, from the diagnostic"),
        Column("received", "long", "received messages of these transmissions"),
        Column("counted_from", "decimal(20,0)", "timestamp of the reset; messages after it were counted"),
        Column("success_rate", "double", "100 * received / attempts, percent"),
        Column("rule_version", "int", "version of the rule that computed it"),
        Column("run", "string", "run that published it"),
        Column("published_at", "timestamptz", "when it was published (UTC)"),
    ),
    partition_column="published_at",
    partition_by="month",
)

JUDGEMENT = ("judged_attempts", "judged_reset", "received", "success_rate", "judged_rule_version")
JUDGED = (*JUDGEMENT, "judged_by", "judged_at")


def item_key(module_id: str, timestamp: int) -> dynamodb.Item:
    """Key of a message or of a diagnostic."""
    return {"moduleId": module_id, "timestamp": timestamp}


def write_messages(table: str, messages: Sequence[MessageKey]) -> None:
    """Write distinct messages; idempotent."""
    dynamodb.put_items(table, [item_key(*message) for message in messages])


def count_messages(table: str, module_id: str, after: int, until: int) -> int:
    """Number of messages of a module with `after < timestamp <= until`; reads only those."""
    return dynamodb.count_items(
        table,
        "moduleId = :module AND #timestamp BETWEEN :first AND :last",
        {":module": module_id, ":first": after + 1, ":last": until},
        {"#timestamp": "timestamp"},
    )


def write_diagnostic(table: str, received: ReceivedDiagnostic) -> None:
    """Write a diagnostic unless the same or a newer one of its key is stored; keeps the judgement."""
    dynamodb.write(
        dynamodb.Update(
            table,
            item_key(received.module_id, received.timestamp),
            "SET attempts = :attempts, version = :version",
            condition="attribute_not_exists(version) OR version < :version",
            values={":attempts": received.attempts, ":version": received.version},
        )
    )


def read_diagnostics(table: str, module_id: str) -> list[Diagnostic]:
    """Every diagnostic of a module, by timestamp."""
    items = dynamodb.query_items(table, "moduleId = :module", {":module": module_id})
    return [_diagnostic(item) for item in items]


def read_judgements(table: str, keys: Sequence[tuple[str, int]]) -> dict[tuple[str, int], Judgement | None]:
    """The stored judgement of each diagnostic, by (module, timestamp)."""
    found = (_diagnostic(item) for item in dynamodb.get_items(table, [item_key(*key) for key in keys]))
    return {(each.module_id, each.timestamp): each.judged for each in found}


def read_all_diagnostics(table: str) -> Iterator[Diagnostic]:
    """Every diagnostic of every module. Scans the whole table; for display only."""
    yield from map(_diagnostic, dynamodb.scan_items(table))


def _diagnostic(item: dynamodb.Item) -> Diagnostic:
    at = item.get("judged_at")
    return Diagnostic(
        item["moduleId"],
        item["timestamp"],
        item["attempts"],
        _judgement(item),
        item.get("judged_by"),
        datetime.fromisoformat(at) if at else None,
    )


def _judgement(item: dynamodb.Item) -> Judgement | None:
    if "judged_attempts" not in item:
        return None
    attempts, reset, received = (item[name] for name in JUDGEMENT[:3])
    rate = float(item["success_rate"]) if "success_rate" in item else None
    # Items older than the attribute were judged by the first version.
    return Judgement(attempts, reset, received, rate, item.get("judged_rule_version", 1))


def write_judgement(table: str, due: Due, judgement: Judgement, run: str, at: datetime) -> Judgement | None:
    """Record the judgement of a run at a time (UTC), unless another run recorded one since it was read.

    Returns:
        The stored judgement: the given one, or that of another run.
    """
    values: dict[str, Any] = {
        ":attempts": judgement.attempts,
        ":reset": judgement.reset,
        ":received": judgement.received,
        ":rule": judgement.rule_version,
        ":run": run,
        ":at": at.isoformat(),
    }
    update = (
        "SET judged_attempts = :attempts, judged_reset = :reset, received = :received, judged_rule_version = :rule,"
        " judged_by = :run, judged_at = :at"
    )
    if judgement.success_rate is None:
        update += " REMOVE success_rate"
    else:
        update += ", success_rate = :rate"
        values[":rate"] = Decimal(repr(judgement.success_rate))
    condition = "attribute_not_exists(judged_attempts)"
    if due.diagnostic.judged is not None:
        condition = "judged_attempts = :before_attempts AND judged_reset = :before_reset"
        values |= {
            ":before_attempts": due.diagnostic.judged.attempts,
            ":before_reset": due.diagnostic.judged.reset,
        }
    key = item_key(due.diagnostic.module_id, due.diagnostic.timestamp)
    written = dynamodb.write(dynamodb.Update(table, key, update, condition=condition, values=values))
    return judgement if written.is_written else _judgement(written.item)


def forget_judgement(table: str, module_id: str, timestamp: int) -> None:
    """Make a diagnostic due again: remove its judgement."""
    dynamodb.write(dynamodb.Update(table, item_key(module_id, timestamp), f"REMOVE {', '.join(JUDGED)}"))


def append_rates(run: str, published_at: datetime, verdicts: Sequence[Verdict]) -> commits.Commit:
    """Append rates that a run is about to publish, except those that an earlier attempt of it appended.

    If a run crashed after appending a rate and before recording it, another run publishes and appends it again.

    Args:
        run: the run as a part of a key.
        published_at: the time (UTC).
        verdicts: those with a rate.

    Raises:
        TableMissing: nothing is deployed.
        TableBusy: see `sluice.aws.tables.commits`.
    """
    rows = rates_table(run, published_at, verdicts)
    key = ("run", "module", "timestamp")
    return row_commits.append(
        RATES.name,
        rows,
        where=f"run = '{run}'",
        columns=key,
        is_new=row_commits.without_keys(rows, key),
        summary={"dag": "modules_diagnostics", "run": run, "rows": rows.num_rows},
    )


def rates_table(run: str, published_at: datetime, verdicts: Sequence[Verdict]) -> pa.Table:
    """Rows of `module_success_rates`."""
    import pyarrow as pa

    # Iceberg has no uint64, and half of its values are too large for a long.
    timestamp = pa.decimal128(20, 0)
    schema = pa.schema(
        [
            ("module", pa.string()),
            ("timestamp", timestamp),
            ("attempts", pa.int64()),
            ("received", pa.int64()),
            ("counted_from", timestamp),
            ("success_rate", pa.float64()),
            ("rule_version", pa.int32()),
            ("run", pa.string()),
            ("published_at", pa.timestamp("us", tz="UTC")),
        ]
    )
    rows = [
        {
            "module": verdict.due.diagnostic.module_id,
            "timestamp": Decimal(verdict.due.diagnostic.timestamp),
            "attempts": verdict.judgement.attempts,
            "received": verdict.judgement.received,
            "counted_from": Decimal(verdict.judgement.reset),
            "success_rate": verdict.judgement.success_rate,
            "rule_version": verdict.judgement.rule_version,
            "run": run,
            "published_at": published_at,
        }
        for verdict in verdicts
    ]
    return pa.Table.from_pylist(rows, schema)
