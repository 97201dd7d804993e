"""The data dictionary (docs/tables.md): shared collections about runs, and those of each pipeline."""

import importlib

from sluice import pipelines
from sluice.core.dictionary import Collection, Field

_TABLE = "`SLUICE_RUNS_TABLE`"
_ALL = ("every Dag",)


def _items(kind: str, holds: str, name: str, *fields: Field, kept: str = "for ever") -> Collection:
    keys = (Field("kind", "S", f"`{kind}`", "partition key"), Field("name", "S", name, "sort key"))
    return Collection(f"pipeline_runs: {kind}", "DynamoDB table", holds, _TABLE, keys + fields, _ALL, "at once", kept)


def _time(name: str, description: str) -> Field:
    return Field(name, "S", f"{description}, ISO 8601 in UTC")


def _record(name: str, holds: str, kind: str, *fields: Field, kept: str) -> Collection:
    keys = (
        Field("kind", "S", f"`{kind}`", "partition key"),
        Field("name", "S", "`<start of the run, ISO 8601 in UTC>/<run id>`", "sort key"),
    )
    return Collection(
        f"pipeline_runs: {name} of runs", "DynamoDB table", holds, _TABLE, keys + fields, _ALL, "at once", kept
    )


_EXPIRES = Field("expires_at", "N", "seconds since 1970 at which DynamoDB deletes the item")
_GATE = (
    _time("at", "when the gate ended"),
    Field("outcome", "S", "`passed`, `warned` or `failed`"),
    Field("dag_id", "S", "the Dag"),
    Field("task_id", "S", "the task that ran the gate"),
    Field("run_id", "S", "the run"),
    _time("started_at", "start of the run"),
    Field("report", "S", "address of the report"),
    Field("message", "S", "failed and warned expectations, at most 4,000 characters; empty if all passed"),
)

COLLECTIONS = (
    Collection(
        "quarantine",
        "JSON Lines",
        "A rejected record of any pipeline",
        "`quarantine/<pipeline>/<run>/<step>.jsonl`; of `events` `quarantine/events/<shard>/`, named as the raw file",
        (
            Field("source", "string", "source of the record: address, with version, line or message id"),
            Field("reason", "string", "reason code, in the table at the end of this page"),
            Field("record", "string", "the record as received"),
            Field("detail", "string", "what is wrong, one sentence"),
        ),
        _ALL,
        "with the run",
        "90 days",
    ),
    Collection(
        "quality",
        "JSON",
        "The report of one gate of one run; the same as a page in `.html`",
        "`quality/<pipeline>/<gate>/<run>.json`",
        (
            Field("gate", "string", "name of the gate"),
            Field("run", "string", "the run"),
            Field("rows", "integer", "rows that were checked"),
            Field("passed", "boolean", "whether the run could publish"),
            Field("findings", "array", "for each expectation: `expectation`, `severity`, `passed`, `observed`"),
        ),
        _ALL,
        "with the run",
        "90 days",
    ),
    _items(
        "dag",
        "The last successful run of one Dag",
        "Dag id",
        _time("success_at", "end of that run"),
        Field("success_run", "S", "its run id"),
        _time("started_at", "its start"),
        Field("tally", "M", "counts of the last run with records"),
        _time("tally_at", "end of that run"),
        _time("published_at", "end of the last run that published a record"),
        _time("drained_at", "start of the last run that emptied its queues"),
    ),
    _items(
        "running",
        "The run of a Dag that has begun and not ended",
        "Dag id",
        Field("run_id", "S", "the run"),
        _time("started_at", "its start"),
        Field("is_drained", "BOOL", "true once it has emptied its queues"),
        kept="until it ends",
    ),
    _items(
        "failure",
        "A task that failed after its last retry and has not succeeded since",
        "`<Dag>/<task>`, or `<Dag>/<task>/<partition>`",
        Field("dag_id", "S", "the Dag"),
        Field("task_id", "S", "the task; empty where the run failed without a task that could report it"),
        Field("partition", "S", "hour or month of the run, or empty"),
        Field("run_id", "S", "the run that failed last"),
        _time("since", "first failure since the last success"),
        _time("at", "last failure"),
        Field("failed", "N", "failures since then"),
        Field("message", "S", "the error, at most 4,000 characters"),
        Field("log_url", "S", "its log in the web UI"),
        Field("again", "S", "command that runs it again"),
        kept="until it succeeds",
    ),
    _items(
        "alert",
        "An alert that was sent and is not over",
        "key of the problem",
        Field("subject", "S", "of the message"),
        _time("opened_at", "when it was sent first"),
        _time("announced_at", "when it was sent last"),
        Field("sent", "BOOL", "false while the message is being sent"),
        kept="until it is over",
    ),
    _record(
        "history",
        "Counts or failure of one run",
        "history/<Dag>",
        _time("at", "when it counted or failed"),
        Field("outcome", "S", "`succeeded` or `failed`"),
        Field("partition", "S", "hour, day or month of the run, or empty"),
        Field("tally", "M", "its counts; missing if it failed before"),
        _EXPIRES,
        kept="30 days",
    ),
    _record("gate", "Result of one gate in one run", "gate/<gate>", *_GATE, _EXPIRES, kept="90 days"),
    _items("gate", "The newest result of one gate", "`<pipeline>/<step>`", *_GATE, _EXPIRES, kept="90 days"),
    _items("queue", "When one queue was last seen empty", "queue", _time("empty_at", "that time")),
    _items(
        "depth",
        "The last two observed depths of one queue",
        "queue",
        _time("seen_at", "last look"),
        Field("seen", "L", "`at` and `messages` (waiting and in flight) of each, the last one first"),
    ),
    _items(
        "canary",
        "Result of the last canary for one pipeline",
        "pipeline",
        _time("ended_at", "end of that run"),
        Field("run_id", "S", "the run of `platform_canary`"),
        Field("latency_seconds", "N", "from sending to publication of the record, seconds; missing if it failed"),
        Field("failure", "S", "what failed and what to do; empty for success"),
    ),
    _items(
        "canary-open",
        "Records of canaries may be in published data",
        "`since`",
        _time("since", "when the first of these canaries began"),
        _time("seen_at", "when one last began or removed records"),
        kept="until all are removed",
    ),
)


def collections() -> dict[str, tuple[Collection, ...]]:
    """Pipeline -> its collections; `platform` has the shared ones."""
    found = {
        name: importlib.import_module(f"sluice.pipelines.{name}.dictionary").COLLECTIONS for name in pipelines.names()
    }
    return found | {"platform": COLLECTIONS}
