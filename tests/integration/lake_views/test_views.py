"""What the page Lake reads, from the embedded AWS."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from embedded_aws import FaultInjection, deploy_one_stack
from sluice import cli
from sluice.aws import s3
from sluice.aws.sessions import client
from sluice.core.quality import GateFailed
from sluice.core.quality.gate import run_gate
from sluice.core.quarantine import Rejection
from sluice.core.run import Run
from sluice.lake_views import datasets, files, overview, quality, quarantine
from sluice.lake_views.places import OutsideTheLake
from sluice.monitoring import history, steps
from sluice.monitoring.history import GateRecord
from sluice.monitoring.runs import Failure, read_runs
from sluice.settings import Settings

NOW = datetime(2026, 11, 27, 15, 30, tzinfo=UTC)
SCRIPT = "<script>alert(1)</script>"
TALLY = {"records_in": 10, "published": 7, "duplicates": 2, "quarantined": 1}


@pytest.fixture
def lake(settings: Settings) -> Settings:
    """An account with a lake bucket and the table of runs."""
    client("s3").create_bucket(Bucket=settings.lake_bucket)
    deploy_one_stack(settings, "platform")
    return settings


def succeed(dag_id: str, run: str, started_at: datetime, result: Any = TALLY) -> None:
    at = started_at + timedelta(seconds=5)
    steps.task_succeeded(
        dag_id, "publish", run, partition="", started_at=started_at, at=at, result=result, ends_run=True
    )


def fail(dag_id: str, run: str, at: datetime, message: str = "no") -> Failure:
    failure = Failure(dag_id, "check", "", run, at, at, 1, message, "http://log", "sluice airflow dags trigger x")
    steps.task_failed(failure, at)
    return failure


def test_counts_of_runs_are_stored_and_the_newest_read_by_a_bounded_query(lake: Settings) -> None:
    for minute in range(5):
        succeed("datasets_aggregate", f"run-{minute}", NOW + timedelta(minutes=minute))
    # The same task again, and a run that found nothing to do.
    succeed("datasets_aggregate", "run-4", NOW + timedelta(minutes=4), TALLY | {"records_in": 11})
    succeed("datasets_aggregate", "idle", NOW + timedelta(minutes=9), None)
    fail("datasets_aggregate", "broken", NOW + timedelta(minutes=5))

    found = history.read_runs_of(lake.runs_table, "datasets_aggregate", NOW + timedelta(minutes=2), limit=3)
    assert [(run.run_id, run.outcome, run.tally.get("records_in")) for run in found] == [
        ("broken", "failed", None),
        ("run-4", "succeeded", 11),
        ("run-3", "succeeded", 10),
    ]
    # What `sluice status` reads does not grow with it.
    assert set(read_runs(lake.runs_table, NOW).dags) == {"datasets_aggregate"}


def test_history_is_deleted_by_dynamodb_after_its_time(lake: Settings) -> None:
    succeed("datasets_aggregate", "run", NOW)
    (item,) = client("dynamodb").query(
        TableName=lake.runs_table,
        KeyConditionExpression="#kind = :kind",
        ExpressionAttributeNames={"#kind": "kind"},
        ExpressionAttributeValues={":kind": {"S": "history/datasets_aggregate"}},
    )["Items"]
    assert int(item["expires_at"]["N"]) == int((NOW + history.RUNS_KEPT).timestamp())


def rows_of(count: int) -> list[dict[str, Any]]:
    return [{"count": count}]


def not_negative() -> list[Any]:
    from great_expectations import expectations as gxe

    return [gxe.ExpectColumnValuesToBeBetween(column="count", min_value=0)]


def test_a_failed_gate_comes_first_and_its_history_shows_every_run(lake: Settings) -> None:
    passed = run_gate(Run.of("datasets", "one"), "aggregate", rows_of(1), ["count"], not_negative)
    succeed("datasets_aggregate", "one", NOW, passed)
    with pytest.raises(GateFailed) as raised:
        run_gate(Run.of("datasets", "two"), "aggregate", rows_of(-1), ["count"], not_negative)
    failure = fail("datasets_aggregate", "two", NOW + timedelta(minutes=1), str(raised.value))
    steps.gate_failed(failure, raised.value.report, failure.at)
    other = GateRecord("events/ingest", "events_ingest", "check", "r", NOW, NOW + timedelta(hours=1), "passed", "", "")
    history.record_gate(lake.runs_table, other)

    dags = {"datasets_aggregate", "events_ingest"}
    newest = quality.read_newest_documents(lake, dags)
    assert [(each["gate"], each["outcome"]) for each in newest] == [
        ("datasets/aggregate", "failed"),
        ("events/ingest", "passed"),
    ]
    assert newest[0]["broken"] == [{"expected": "count: at least 0", "found": "-1", "severity": "critical"}]
    assert [each.gate for each in quality.read_newest(lake, {"events_ingest"})] == ["events/ingest"]

    page = quality.read_gate(lake, "datasets/aggregate")
    assert [run["run"] for run in page["runs"]] == ["two", "one"]
    assert page["grid"][0]["outcomes"] == ["failed", "passed"]
    assert page["report"]["findings"][0]["found"] == "-1"
    assert quality.read_gate(lake, "datasets/aggregate", "one")["report"]["findings"][0]["found"] == "1"
    with pytest.raises(quality.GateUnknown):
        quality.read_gate(lake, "datasets/unknown")


def run_command(*arguments: str, exit_code: int = 0) -> str:
    done = CliRunner().invoke(cli.main, arguments)
    assert done.exit_code == exit_code, done.output
    return done.output


def test_the_terminal_shows_the_same_gates_and_records(lake: Settings) -> None:
    assert "No gate has run yet" in run_command("quality", "list")
    run_command("quality", "open", "datasets/aggregate", exit_code=1)
    passed = run_gate(Run.of("datasets", "one"), "aggregate", rows_of(1), ["count"], not_negative)
    succeed("datasets_aggregate", "one", NOW, passed)
    Run.of("datasets", "run").quarantine("files", rejected(3))

    assert json.loads(run_command("quality", "list", "--json"))["outcome"] == "passed"
    shown = run_command("quality", "open", "datasets/aggregate")
    assert "count: at least 0" in shown
    assert "/plugin/lake/quality/datasets/aggregate?run=one" in shown
    assert run_command("quarantine", "list").splitlines()[-1] == "3 records"
    shown = run_command("quarantine", "show", "--reason", "not_json", "--limit", "2")
    assert f"record: {SCRIPT}0" in shown
    assert "2 of 3 records" in shown
    assert "is not a pipeline" in run_command("quarantine", "list", "--pipeline", "x", exit_code=2)


def test_the_overview_shows_only_what_a_person_may_read(deployed: Settings) -> None:
    succeed("datasets_aggregate", "run", NOW)
    succeed("events_ingest", "run", NOW)
    found = overview.read_overview(deployed, {"datasets_aggregate"}, NOW + timedelta(minutes=1), "http://airflow.test")
    assert [each["pipeline"] for each in found["pipelines"]] == ["datasets"]
    datasets = found["pipelines"][0]
    (counts,) = datasets["hours"]["dags"]
    assert (counts["dag"], counts["records_in"][-1], counts["published"][-1]) == ("datasets_aggregate", 10, 7)
    assert datasets["tables"] == [{"table": "datasets", "freshness_seconds": 55.0}]
    assert (datasets["waiting"], datasets["dead_letters"]) == (0, 0)
    assert json.dumps(found)


def rejected(count: int, reason: str = "not_json") -> list[Rejection]:
    return [Rejection(f"s3://x/{number}", reason, f"{SCRIPT}{number}", "no JSON") for number in range(count)]


def test_rejected_records_are_found_by_pipeline_reason_day_and_file(lake: Settings) -> None:
    Run.of("datasets", "run").quarantine("files", rejected(3))
    Run.of("events", "shard").quarantine("x", rejected(2, "bad_uuid"))
    found = quarantine.read_quarantine(lake, ["datasets", "events"])
    assert [(each["pipeline"], each["reason"], each["records"]) for each in found["counts"]] == [
        ("datasets", "not_json", 3),
        ("events", "bad_uuid", 2),
    ]
    assert found["is_whole"]
    assert quarantine.read_quarantine(lake, ["events"])["matching"] == 2
    assert quarantine.read_quarantine(lake, ["datasets", "events"], reason="not_json")["matching"] == 3
    assert quarantine.read_quarantine(lake, ["datasets"], day="2001-01-01")["matching"] == 0
    key = "quarantine/datasets/run/files.jsonl"
    (record, *_) = quarantine.read_quarantine(lake, ["datasets"], pipeline="datasets", key=key)["records"]
    assert (record["record"], record["key"]) == (f"{SCRIPT}0", key)


def test_a_large_quarantine_costs_a_bounded_number_of_requests(lake: Settings, faults: FaultInjection) -> None:
    for number in range(quarantine.FILES_READ + 5):
        Run.of("datasets", f"run-{number:03}").quarantine("files", rejected(2))
    before = faults.requests()
    found = quarantine.read_quarantine(lake, ["datasets"])
    asked = faults.requests() - before
    assert sum(count for (service, _), count in asked.items() if service == "s3") <= 1 + quarantine.FILES_READ
    assert not found["is_whole"]
    assert found["matching"] == 2 * quarantine.FILES_READ


def test_the_newest_files_are_found_wherever_their_keys_are(lake: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quarantine, "PAGE_KEYS", 3)
    monkeypatch.setattr(quarantine, "FILES_READ", 2)
    for number in (3, 1, 5, 0, 2, 4, 7, 6):
        Run.of("datasets", f"run-{number}").quarantine("files", rejected(1))
    found = quarantine.read_quarantine(lake, ["datasets"])
    assert [each["key"].split("/")[2] for each in found["records"]] == ["run-6", "run-7"]
    assert (found["is_whole"], found["is_listed"]) == (False, True)
    (day,) = found["days"]
    assert quarantine.read_quarantine(lake, ["datasets"], day=day)["matching"] == 2

    monkeypatch.setattr(quarantine, "FILES_READ", 8)
    assert quarantine.read_quarantine(lake, ["datasets"])["is_whole"]

    monkeypatch.setattr(quarantine, "PAGES_LISTED", 2)
    found = quarantine.read_quarantine(lake, ["datasets"])
    assert (found["matching"], found["is_whole"], found["is_listed"]) == (6, False, False)
    assert "first 6 files by key" in run_command("quarantine", "list", "--pipeline", "datasets")


def test_a_folder_is_listed_a_page_at_a_time(lake: Settings) -> None:
    for number in range(3):
        s3.write_object(lake.lake_bucket, f"staging/events/run-{number}/x.json", b"{}")
    s3.write_object(lake.lake_bucket, "staging/events/note.json", b"{}")
    found = files.list_folder(lake, "staging/events/")
    assert [each["prefix"] for each in found["folders"]] == [f"staging/events/run-{number}/" for number in range(3)]
    assert [(each["key"], each["size_bytes"]) for each in found["objects"]] == [("staging/events/note.json", 2)]
    assert found["kept_days"] == 7
    assert next(each["prefix"] for each in files.list_folder(lake, "")["folders"]) == "raw/"
    with pytest.raises(OutsideTheLake):
        files.list_folder(lake, "elsewhere/")


def test_a_parquet_file_is_previewed_by_ranges_and_not_read_whole(lake: Settings, faults: FaultInjection) -> None:
    buffer = io.BytesIO()
    rows = 400_000
    table = pa.table({"n": list(range(rows)), "text": [str(number * 7919 % 1_000_003) for number in range(rows)]})
    pq.write_table(table, buffer, row_group_size=20_000, compression="none")
    assert len(buffer.getvalue()) > 4 * files.RANGE_BYTES
    s3.write_object(lake.lake_bucket, "raw/events/x.parquet", buffer.getvalue())
    before = faults.requests()
    found = files.preview(lake, "raw/events/x.parquet")
    asked = faults.requests() - before
    assert found["total_rows"] == rows
    assert found["rows"][1] == [1, "7919"]
    assert len(found["rows"]) == files.ROWS
    assert sum(asked.values()) <= 5


@pytest.mark.parametrize(
    ("name", "body", "expected"),
    [
        ("a.jsonl", b'{"a": 1}\n{"b": 2}\n', {"columns": ["a", "b"], "rows": [[1, None], [None, 2]]}),
        ("a.csv", "\ufeffa,b\n1,x\n".encode(), {"columns": ["a", "b"], "rows": [["1", "x"]]}),
        ("a.json", b'{"a":1}', {"text": '{\n  "a": 1\n}'}),
        ("a.html", SCRIPT.encode(), {"kind": "html", "text": SCRIPT}),
        ("a.avro", b"\x00", {"kind": "none"}),
        ("a.txt", b"", {"text": ""}),
    ],
)
def test_every_kind_of_file_has_a_preview(lake: Settings, name: str, body: bytes, expected: dict[str, Any]) -> None:
    s3.write_object(lake.lake_bucket, f"staging/events/{name}", body)
    found = files.preview(lake, f"staging/events/{name}")
    assert {key: found[key] for key in expected} == expected


def test_a_dataset_has_charts_of_its_aggregates(lake: Settings) -> None:
    rows = {
        **{"dp": ["a", "b"], "memory_min": [-1, 2], "memory_max": [3, 4], "memory_count": [5, 6]},
        **{"percentage_max": [0.5, 1.0], "percentage_avg": [0.25, 0.5], "ratio_max": [7.5, None]},
    }
    buffer = io.BytesIO()
    pq.write_table(pa.table(rows), buffer)
    s3.write_object(lake.lake_bucket, "curated/datasets/sales.parquet", buffer.getvalue())
    found = datasets.read_dataset(lake, "curated/datasets/sales.parquet")
    assert (found["name"], found["rows"]) == ("sales", 2)
    charts = {each["title"]: each for each in found["charts"]}
    assert charts["Rows by dp"]["labels"] == ["a", "b"]
    assert charts["Memory by dp"]["series"] == {"least": [-1, 2], "greatest": [3, 4]}
    assert charts["Greatest ratio by dp"]["series"] == {"ratio": [7.5, None]}
    assert json.dumps(found)
    with pytest.raises(s3.ObjectMissing):
        datasets.read_dataset(lake, "curated/datasets/other.parquet")


def test_a_missing_file_is_said_to_be_missing(lake: Settings) -> None:
    with pytest.raises(s3.ObjectMissing):
        files.preview(lake, "quality/events/hourly/gone.html")
