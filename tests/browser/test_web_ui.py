from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from browser.conftest import RunningStack, eventually, own_environment, start_stack
from browser.inputs import (
    Producer,
    find_outputs,
    months,
    outputs_of_inputs,
    put_inputs,
    put_raw,
    return_messages_soon,
    staged,
)
from datasets_world import csv_of, row
from sluice.monitoring.canary.records import DAGS
from sluice_dev.stack.airflow_api import ENDED, AirflowApi

SMALL_DEMO = """
from datetime import UTC, datetime
from sluice.core.console import console
from sluice_dev import demo
from sluice_dev.samples import datasets
from sluice.settings import load_settings

demo.run(load_settings(), console(), lambda: [datasets.sample(datetime.now(UTC), live=False)], live=False)
"""


def fill_in(page: Page, source: str) -> None:
    """Open the form, name a source, and trigger."""
    page.goto("/dags/datasets_aggregate")
    page.get_by_role("button", name="Trigger").click()
    form = page.get_by_role("dialog")
    form.locator("[name='element_source']").fill(source)
    # The form takes a value when the field is left.
    form.locator("[name='element_source']").press("Tab")
    form.get_by_role("button", name="Trigger", exact=True).click()


def test_a_pull_triggered_in_the_web_ui_ends_in_the_table(stack: RunningStack, page: Page) -> None:
    page.goto("/dags/dockerhub_pull")
    page.get_by_role("button", name="Trigger").click()
    page.get_by_role("dialog").get_by_role("button", name="Trigger", exact=True).click()

    # The raw object triggers the aggregation.
    eventually(lambda: months(stack, "localstack/localstack") != {}, timeout_seconds=120)
    page.goto("/dags/dockerhub_aggregate/runs")
    expect(page.get_by_text("asset_triggered").first).to_be_visible()

    (run,) = page.request.get("/api/v2/dags/dockerhub_pull/dagRuns?run_type=manual").json()["dag_runs"]
    page.goto(f"/dags/dockerhub_pull/runs/{run['dag_run_id']}/tasks/check_answers/details")
    with page.expect_popup() as opened:
        page.get_by_role("link", name="Report").click()
    expect(opened.value.get_by_role("heading")).to_have_text("Gate dockerhub/pull: passed")


def test_an_object_put_by_hand_reaches_the_table_without_airflow_commands(stack: RunningStack) -> None:
    put_raw(stack, "byhand/image", "2024_02_03_040506", pull_count=41)

    eventually(lambda: months(stack, "byhand/image") == {"2024-02": 41})


def test_a_backfill_rebuilds_the_aggregates_of_a_past_range_from_raw(stack: RunningStack) -> None:
    put_raw(stack, "backfill/image", "2023_09_14_150000", pull_count=100)
    put_raw(stack, "backfill/image", "2023_10_30_154316", pull_count=120)
    eventually(lambda: months(stack, "backfill/image") == {"2023-09": 100, "2023-10": 120})
    dynamodb = stack.client("dynamodb")
    for item in dynamodb.scan(TableName="dockerhub_stats")["Items"]:
        if "backfill" in item["PK"]["S"]:
            dynamodb.delete_item(TableName="dockerhub_stats", Key={"PK": item["PK"], "SK": item["SK"]})

    dates = ("--from-date", "2023-09-01", "--to-date", "2023-10-31")
    assert stack.sluice("airflow", "backfill", "create", "--dag-id", "dockerhub_rebuild", *dates) == ""

    eventually(lambda: months(stack, "backfill/image") == {"2023-09": 100, "2023-10": 120}, timeout_seconds=120)
    runs = json.loads(stack.sluice("airflow", "dags", "list-runs", "dockerhub_rebuild", "--output", "json"))
    assert {"backfill__2023-10-01", "backfill__2023-11-01"} <= {run["run_id"][:20] for run in runs}


def test_the_page_of_the_table_events_shows_the_way_from_its_source(page: Page) -> None:
    found = page.request.get("/api/v2/assets?name_pattern=events").json()["assets"]
    (events,) = [asset["id"] for asset in found if asset["name"] == "events"]
    page.goto(f"/assets/{events}")
    page.get_by_text("Task Dependencies").click()
    nodes = page.locator(".react-flow__node")
    for name in ("event_stream", "publish_batch", "raw_events", "publish_hour", "events"):
        expect(nodes.filter(has_text=re.compile(f"^{name}")).first).to_be_attached()


def test_the_page_of_a_dag_explains_it(page: Page) -> None:
    page.goto("/dags/dockerhub_aggregate")
    page.get_by_role("button", name="Dag Docs").click()
    for heading in ("What it does", "Triggered by", "Parameters", "Reads and writes", "Running it again"):
        expect(page.get_by_role("heading", name=heading)).to_be_visible()


def test_the_trigger_form_offers_the_rebuild_and_no_backfill(page: Page) -> None:
    page.goto("/dags/dockerhub_aggregate")
    page.get_by_role("button", name="Trigger").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("checkbox", name="Rebuild")).to_be_attached()
    expect(dialog.get_by_role("radio", name="Backfill")).to_be_disabled()


def test_the_trigger_form_refuses_invalid_sources_and_processes_valid_ones(stack: RunningStack, page: Page) -> None:
    s3 = stack.client("s3")
    # A name without a notification of the queue: only this form starts its processing.
    s3.put_object(Bucket="sluice-landing", Key="datasets/form.txt", Body=csv_of(row(memory=7)))

    fill_in(page, "http://example.org/x.csv")
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_text("is not https: a CSV is only fetched from https URLs")).to_be_visible()
    expect(dialog.get_by_text("Failed validating")).to_have_count(0)

    fill_in(page, "datasets/form.txt")
    expect(page.get_by_role("dialog")).to_be_hidden()
    output = {"Bucket": "sluice-lake", "Prefix": "curated/datasets/form.parquet"}
    eventually(lambda: s3.list_objects_v2(**output)["KeyCount"] == 1, timeout_seconds=120)


def test_a_dataset_that_was_asked_for_before_it_arrives_is_published(stack: RunningStack, page: Page) -> None:
    s3 = stack.client("s3")
    # A name without a notification of the queue: only the waiting run starts its processing.
    conf = json.dumps({"source": "datasets/awaited.txt", "wait_minutes": 5})
    stack.sluice("airflow", "dags", "trigger", "datasets_await", "--conf", conf, "--run-id", "early")
    wait = "/api/v2/dags/datasets_await/dagRuns/early/taskInstances/wait"
    eventually(lambda: page.request.get(wait).json()["state"] == "deferred")
    s3.put_object(Bucket="sluice-landing", Key="datasets/awaited.txt", Body=csv_of(row(memory=7)))
    output = {"Bucket": "sluice-lake", "Prefix": "curated/datasets/awaited.parquet"}
    eventually(lambda: s3.list_objects_v2(**output)["KeyCount"] == 1, timeout_seconds=120)


def test_no_run_of_a_new_stack_has_failed(page: Page) -> None:
    """Nothing is set up yet, and only the stand-in has data."""
    assert page.request.get("/api/v2/dags/~/dagRuns?limit=1").json()["total_entries"] > 0
    failed = page.request.get("/api/v2/dags/~/dagRuns?state=failed").json()
    assert [run["dag_id"] for run in failed["dag_runs"]] == []


def test_runs_of_the_demo_have_their_real_times_and_readable_logs(stack: RunningStack) -> None:
    began = datetime.now(UTC)
    done = subprocess.run(
        [sys.executable, "-c", SMALL_DEMO],
        env=stack.environment | {"COLUMNS": "80"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"Using the stack that is up: {stack.url}" in done.stdout
    assert re.search(r"datasets_aggregate +\d+ +20,000 ", done.stdout), done.stdout
    assert re.search(r"right +([\d,]+) of \1 good rows", done.stdout)
    assert max(map(len, done.stdout.splitlines())) <= 80

    api = AirflowApi(stack.url, stack.user, stack.password)
    runs = api.runs(["datasets_aggregate"], ENDED, began)
    triggered = [run for run in runs if run.run_id.startswith("manual__")]
    assert triggered
    for run in triggered:
        assert run.started is not None
        assert run.ended is not None
        assert began <= run.started < run.ended <= datetime.now(UTC)
        assert "Returned value was" in api.log(run, "collect")


def test_a_second_up_says_that_it_is_up(stack: RunningStack) -> None:
    with pytest.raises(AssertionError, match=r"it is up already \(process \d+, .*sluice down` stops it"):
        stack.sluice("up")


def test_verify_proves_every_pipeline_and_names_each_that_is_paused(stack: RunningStack) -> None:
    stack.sluice("partners", "set-priority", "A")
    lines = stack.sluice("verify").splitlines()
    assert [line.split()[:2] for line in lines] == [*([name, "right"] for name in DAGS), ["all", "right"]]
    assert "canary: dockerhub " in stack.sluice("status")

    api = AirflowApi(stack.url, stack.user, stack.password)

    def set_paused(*, is_paused: bool) -> None:
        for dag_ids in DAGS.values():
            api.client.patch(f"/api/v2/dags/{dag_ids[-1]}", json={"is_paused": is_paused}).raise_for_status()

    set_paused(is_paused=True)
    try:
        with pytest.raises(AssertionError) as failed:
            stack.sluice("verify", "--json")
    finally:
        set_paused(is_paused=False)
    found = json.loads(str(failed.value).partition("\nassert")[0])
    for each in found["pipelines"]:
        dag_id = DAGS[each["pipeline"]][-1]
        assert each["failure"] == f"{dag_id} is paused; `sluice airflow dags unpause {dag_id}`"


def test_nothing_is_lost_or_doubled_when_each_part_is_killed_once(stack: RunningStack) -> None:
    stack.sluice("partners", "set-priority", "A")
    return_messages_soon(stack)
    before = staged(stack, "datasets")
    with Producer(stack, "killed") as producer:
        eventually(lambda: staged(stack, "datasets") > before)
        killed_at = datetime.now(UTC)
        for name in ("scheduler", "triggerer", "dag-processor", "api-server", "PostgreSQL"):
            stack.kill(name)
        eventually(lambda: stack.is_healthy(since=killed_at))

    expected = outputs_of_inputs("killed", producer.count)
    eventually(lambda: find_outputs(stack, "killed") == expected, timeout_seconds=300)


def test_a_killed_emulator_is_started_again_and_deployed_to(stack: RunningStack) -> None:
    """Unsaved state is lost, such as the lists of partners; objects are not, and the pipelines continue."""

    def objects() -> set[str]:
        listed = stack.client("s3").list_objects_v2
        places = (("sluice-landing", ""), ("sluice-lake", "raw/"), ("sluice-lake", "curated/datasets/"))
        found = [listed(Bucket=bucket, Prefix=prefix).get("Contents", []) for bucket, prefix in places]
        return {each["Key"] for contents in found for each in contents}

    before = objects()
    stack.kill("embedded AWS")
    assert objects() >= before

    stack.sluice("partners", "set-priority", "A")
    put_inputs(stack, "after", 0)
    eventually(lambda: find_outputs(stack, "after") == outputs_of_inputs("after", 1), timeout_seconds=120)


def test_stopping_leaves_no_process_behind_and_loses_nothing(stack: RunningStack) -> None:
    """By ctrl-C and, after a second start, by `sluice down`. No test after it has the stack of those before."""
    return_messages_soon(stack)
    before = staged(stack, "dockerhub")
    put_raw(stack, "stopped/image", "2024_02_03_040506", pull_count=1)
    eventually(lambda: staged(stack, "dockerhub") > before)
    stack.process.send_signal(signal.SIGINT)
    assert stack.process.wait(120) == 0
    assert stack.processes() == []

    again = start_stack(stack.environment)
    eventually(lambda: months(again, "stopped/image") == {"2024-02": 1}, timeout_seconds=120)
    before = staged(again, "dockerhub")
    put_raw(again, "stopped/image", "2024_03_03_040506", pull_count=2)
    eventually(lambda: staged(again, "dockerhub") > before)
    assert again.sluice("down").startswith("Stopped: Airflow")
    assert again.process.wait(120) == 0
    assert again.processes() == []


def test_kill_in_the_middle_of_the_demo_ends_the_services(tmp_path: Path) -> None:
    environment = own_environment(tmp_path)
    demo = subprocess.Popen([sys.executable, "-c", SMALL_DEMO], env=environment, stdout=subprocess.PIPE, text=True)
    running = RunningStack("", "", "", tmp_path, environment, demo, [])
    scheduler = tmp_path / "sessions" / "scheduler.session"
    eventually(lambda: scheduler.exists() or demo.poll() is not None, timeout_seconds=120)

    demo.send_signal(signal.SIGTERM)

    assert demo.wait(120) == 1
    assert running.processes() == []
