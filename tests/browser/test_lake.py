"""The page Lake in a real browser, on what the pipelines of a running stack made. Its stack is that of test_web_ui."""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jwt
import pyarrow.parquet as pq
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from accommodations_world import a_record, json_lines
from browser.conftest import RunningStack, eventually
from browser.inputs import find_outputs, outputs_of_inputs, put_inputs
from datasets_world import csv_of, row
from sluice.lake import run_slug
from sluice_dev.stack.airflow_api import AirflowApi, DagRun

AXE = (Path(__file__).parent / "vendor" / "axe.js").read_text()
PAGES = (
    "",
    "/tables",
    "/tables/accommodations_current",
    "/tables/datasets",
    "/quality",
    "/quality/datasets/aggregate",
    "/quarantine",
    "/files?prefix=quality/datasets/aggregate/",
)
SCRIPT = "<script>document.title='stolen'</script>"


@pytest.fixture(scope="module")
def filled(stack: RunningStack) -> RunningStack:
    """The stack, once three pipelines have published and rejected something."""
    stack.sluice("partners", "set-priority", "A")
    put_inputs(stack, "lake", 0)
    s3 = stack.client("s3")
    s3.put_object(
        Bucket="sluice-landing", Key="datasets/rejects.csv", Body=csv_of(row(memory=7), row(memory="x"), row(dp=SCRIPT))
    )
    partner_file = json_lines([a_record("lake-x", SCRIPT)]) + SCRIPT.encode() + b"\n"
    s3.put_object(Bucket="sluice-landing", Key="accommodations/rejects.jsonl", Body=partner_file)
    eventually(lambda: find_outputs(stack, "lake") == outputs_of_inputs("lake", 1), timeout_seconds=180)
    eventually(lambda: len(quarantined(stack)) >= 2 and "datasets/rejects" in published(stack))
    api = AirflowApi(stack.url, stack.user, stack.password)
    # The last figure of a run is noted at its end.
    dags = ("datasets_aggregate", "accommodations_consolidate", "dockerhub_aggregate")
    eventually(lambda: not api.runs(dags, ["queued", "running"]))
    return stack


def quarantined(stack: RunningStack) -> list[dict[str, Any]]:
    """Every rejected record of the lake."""
    s3 = stack.client("s3")
    listed = s3.list_objects_v2(Bucket="sluice-lake", Prefix="quarantine/").get("Contents", [])
    bodies = [s3.get_object(Bucket="sluice-lake", Key=each["Key"])["Body"].read() for each in listed]
    return [json.loads(line) for body in bodies for line in body.splitlines()]


def published(stack: RunningStack) -> dict[str, int]:
    """Rows that went into each published dataset."""
    s3 = stack.client("s3")
    listed = s3.list_objects_v2(Bucket="sluice-lake", Prefix="curated/datasets/").get("Contents", [])
    found = {}
    for each in listed:
        body = s3.get_object(Bucket="sluice-lake", Key=each["Key"])["Body"].read()
        name = each["Key"].removeprefix("curated/").removesuffix(".parquet")
        found[name] = sum(line["memory_count"] for line in pq.read_table(io.BytesIO(body)).to_pylist())
    return found


def signed_in(browser: Browser, stack: RunningStack, role: str | None, **options: Any) -> BrowserContext:
    """A browser in which a user with a role is signed in; Airflow's simple auth manager believes what it signed."""
    token = AirflowApi(stack.url, stack.user, stack.password).client.headers["Authorization"].removeprefix("Bearer ")
    claims = jwt.decode(token, options={"verify_signature": False}) | {"sub": "somebody", "role": role}
    secret = (stack.home / "airflow" / "secret").read_text()
    mine = jwt.encode(claims, secret, algorithm=jwt.get_unverified_header(token)["alg"])
    context = browser.new_context(base_url=stack.url, **options)
    context.add_cookies([{"name": "_token", "value": mine, "url": stack.url}])
    return context


@pytest.fixture(scope="module")
def viewer(browser: Browser, filled: RunningStack) -> Iterator[Page]:
    """The Lake as a user sees it who may only read; fails where anything is asked of another machine."""
    context = signed_in(browser, filled, "viewer", viewport={"width": 1280, "height": 900})
    asked: list[str] = []
    context.on("request", lambda request: asked.append(request.url))
    opened = context.new_page()
    errors: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    yield opened
    context.close()
    assert errors == []
    elsewhere = {urlsplit(url).hostname for url in asked if url.startswith("http")} - {"127.0.0.1"}
    assert elsewhere == set()


def open_lake(page: Page, path: str = "") -> None:
    """Open a page of the Lake, and wait for what it shows; by Airflow's router where the web UI is open already."""
    if page.url.startswith("http"):
        page.evaluate(
            "url => { history.pushState({}, '', url); dispatchEvent(new PopStateEvent('popstate')) }",
            f"/plugin/lake{path}",
        )
    else:
        page.goto(f"/plugin/lake{path}")
    expect(page.get_by_test_id("lake")).to_be_visible()
    expect(page.get_by_test_id("lake-loading")).to_have_count(0)


def test_the_overview_shows_what_the_pipelines_counted(filled: RunningStack, page: Page) -> None:
    page.get_by_role("link", name="Lake").click()
    datasets = page.get_by_test_id("pipeline-datasets")
    expect(datasets.get_by_test_id("published")).to_have_text(str(sum(published(filled).values())))
    rejected = [each for each in quarantined(filled) if each["source"].startswith("s3://sluice-landing/datasets/")]
    expect(datasets.get_by_test_id("quarantined")).to_have_text(str(len(rejected)))
    expect(datasets.get_by_text("passed").or_(datasets.get_by_text("warned"))).to_be_visible()
    expect(page.get_by_text("Embedded AWS on this machine")).to_be_visible()
    expect(page).to_have_title("Overview · Lake")


def test_the_row_of_a_triggered_dag_changes_on_the_open_overview(filled: RunningStack, viewer: Page) -> None:
    open_lake(viewer)
    counts = viewer.get_by_test_id("counts-datasets_aggregate")
    before = {name: int(counts.get_by_test_id(name).inner_text()) for name in ("in", "published", "quarantined")}
    viewer.evaluate("window.isThePageOfBefore = true")
    # A name without a notification of the queue: only the triggered run processes it.
    rows = csv_of(row(memory=1), row(memory=2), row(percentage="x"))
    filled.client("s3").put_object(Bucket="sluice-landing", Key="datasets/triggered.txt", Body=rows)
    api = AirflowApi(filled.url, filled.user, filled.password)
    api.trigger("datasets_aggregate", {"source": "datasets/triggered.txt"})
    expect(counts.get_by_test_id("in")).to_have_text(str(before["in"] + 3), timeout=90_000)
    expect(counts.get_by_test_id("published")).to_have_text(str(before["published"] + 2))
    expect(counts.get_by_test_id("quarantined")).to_have_text(str(before["quarantined"] + 1))
    assert viewer.evaluate("window.isThePageOfBefore"), "the page was not loaded again"


def test_the_newest_gate_is_opened_and_says_in_words_what_it_found(filled: RunningStack, viewer: Page) -> None:
    open_lake(viewer, "/quality")
    viewer.get_by_role("link", name="datasets/aggregate").click()
    expectations = viewer.get_by_role("region", name="Expectations")
    expect(expectations.get_by_text("records in: as many as records accounted for")).to_be_visible()
    s3 = filled.client("s3")
    viewer.get_by_role("link", name="stored report").click()
    expect(viewer.get_by_test_id("path")).to_contain_text(".html")
    key = dict(part.split("=") for part in urlsplit(viewer.url).query.split("&"))["key"].replace("%2F", "/")
    stored = json.loads(s3.get_object(Bucket="sluice-lake", Key=key.replace(".html", ".json"))["Body"].read())
    frame = viewer.frame_locator("iframe")
    expect(frame.get_by_role("heading", name="Gate datasets/aggregate")).to_be_visible()
    assert frame.locator("table").first.locator("tbody tr").count() == len(stored["findings"])


def test_a_table_shows_the_rows_columns_and_snapshot_that_it_has(filled: RunningStack, viewer: Page) -> None:
    open_lake(viewer, "/tables")
    viewer.get_by_role("link", name="accommodations_current").click()
    newest = json.loads(filled.sluice("tables", "history", "accommodations_current", "--json").splitlines()[0])
    expect(viewer.get_by_test_id("rows")).to_have_text(f"{int(newest['summary']['total-records']):,}")
    columns = viewer.get_by_role("region", name="Columns")
    expect(columns.get_by_text("the partner with the highest priority for it")).to_be_visible()
    expect(viewer.get_by_role("row").filter(has_text="this one")).to_contain_text(str(newest["snapshot"]))
    expect(viewer.get_by_role("img", name="Accommodations by winning partner")).to_be_visible()


def test_the_graph_leads_from_a_source_through_its_dag_to_the_table(filled: RunningStack, viewer: Page) -> None:
    open_lake(viewer, "/lineage?pipeline=datasets")
    graph = viewer.get_by_role("region", name="Graph of the pipelines")
    for name in ("dataset_files", "sluice-dev-datasets", "datasets_aggregate", "datasets", "SQL engines"):
        expect(graph.get_by_test_id(f"node-{name}")).to_be_visible()
    expect(graph.get_by_title("0 waiting")).to_be_visible()
    expect(graph.get_by_test_id("node-events")).to_have_count(0)
    graph.get_by_test_id("node-datasets").get_by_role("link").click()
    viewer.get_by_role("link", name="rejects", exact=True).click()
    expect(viewer.get_by_role("heading", name="rejects")).to_be_visible()
    expect(viewer.get_by_role("img", name="Rows by dp: rows; 2 points")).to_be_visible()
    expect(viewer.get_by_role("link", name="rejects.parquet")).to_be_visible()


def test_the_tabs_of_a_dag_and_of_a_run_show_what_it_counted(filled: RunningStack, viewer: Page) -> None:
    api = AirflowApi(filled.url, filled.user, filled.password)
    run = next(each for each in api.runs(["datasets_aggregate"], ["success"]) if staged_files(filled, each))
    viewer.goto("/dags/datasets_aggregate")
    viewer.locator("a[href$='/plugin/data']").click()
    expect(viewer.get_by_role("region", name="Runs")).to_be_visible()
    viewer.goto(f"/dags/datasets_aggregate/runs/{run.run_id}")
    viewer.locator("a[href$='/plugin/run-data']").click()
    counted = api.returned(run, "publish")
    for name in ("records_in", "published", "quarantined"):
        expect(viewer.get_by_test_id(name)).to_have_text(str(counted[name]))
    expect(viewer.get_by_role("region", name="Gates")).to_be_visible()

    newest = viewer.request.get("/lake/api/tables/accommodations_current").json()["snapshot_list"][0]
    published_by = next(
        each for each in api.runs(["accommodations_consolidate"], ["success"]) if run_slug(each.run_id) == newest["run"]
    )
    viewer.goto(f"/dags/accommodations_consolidate/runs/{published_by.run_id}/plugin/run-data")
    committed = viewer.get_by_role("region", name="Snapshots").get_by_role("row")
    expect(committed.filter(has_text="accommodations_current")).to_contain_text(newest["snapshot"])
    expect(committed.filter(has_text="accommodations_candidates")).to_be_visible()


def test_rejected_records_are_counted_filtered_and_shown_as_text(filled: RunningStack, viewer: Page) -> None:
    records = quarantined(filled)
    open_lake(viewer, "/quarantine")
    expect(viewer.get_by_role("heading", name=f"{len(records)} rejected records")).to_be_visible()
    counts = Counter(each["reason"] for each in records)
    open_lake(viewer, "/quarantine?pipeline=accommodations&reason=not_json")
    expect(viewer.get_by_test_id("quarantined")).to_have_count(counts["not_json"])
    expect(viewer.get_by_text(SCRIPT).first).to_be_visible()
    expect(viewer).to_have_title("Quarantine · Lake")
    with viewer.expect_download() as downloaded:
        viewer.get_by_role("link", name="download").first.click()
    assert SCRIPT in Path(downloaded.value.path()).read_text()


def test_a_quarantined_file_is_corrected_released_and_published(
    filled: RunningStack, browser: Browser, viewer: Page
) -> None:
    open_lake(viewer, "/quarantine?pipeline=datasets")
    expect(viewer.get_by_role("button", name="Release")).to_have_count(0)
    body = {"pipeline": "datasets", "source": "s3://sluice-landing/datasets/x.csv", "text": "x"}
    assert viewer.request.post("/lake/api/quarantine/release", data=body).status == 403, "a viewer may not"

    context = signed_in(browser, filled, "admin", viewport={"width": 1280, "height": 900})
    page = context.new_page()
    forged = {"Origin": "http://elsewhere.example"}
    assert context.request.post("/lake/api/quarantine/release", data=body, headers=forged).status == 403
    plain = {"Content-Type": "text/plain"}
    assert context.request.post("/lake/api/quarantine/release", data="x", headers=plain).status == 415

    open_lake(page, "/quarantine?pipeline=datasets")
    card = page.get_by_test_id("quarantined").filter(has_text="memory")
    card.get_by_role("button", name="Release").click()
    card.get_by_label("The whole corrected file").fill(csv_of(row(memory=7), row(memory=8), row(dp="b")).decode())
    card.get_by_role("button", name="Send back").click()
    card.get_by_role("button", name="Send", exact=True).click()
    expect(card.get_by_text("Sent to s3://sluice-landing/datasets/rejects.csv")).to_be_visible()
    eventually(lambda: published(filled).get("datasets/rejects") == 3)
    logged = page.request.get("/api/v2/eventLogs?event=lake_release").json()["event_logs"]
    assert logged[0]["owner"] == "somebody"
    context.close()


def test_a_file_is_found_by_clicks_and_its_rows_are_shown(filled: RunningStack, viewer: Page) -> None:
    open_lake(viewer, "/files")
    for name in ("curated/", "datasets/", "rejects.parquet"):
        viewer.get_by_role("link", name=name, exact=True).click()
    rows = viewer.get_by_role("region", name="Rows")
    expect(rows.get_by_role("columnheader", name="memory_count")).to_be_visible()
    expect(rows.get_by_role("row")).to_have_count(3)


def test_only_a_signed_in_user_with_access_to_dags_gets_a_response(filled: RunningStack, browser: Browser) -> None:
    paths = (
        *("overview", "quality", "quality/datasets/aggregate", "quarantine", "files?prefix=raw/"),
        "tables",
        "tables/events",
        "tables/events/rows",
        "tables/events/charts",
        "datasets?key=curated/datasets/x.parquet",
        "files/preview?key=raw/events/x",
        "files/download?key=raw/events/x",
    )
    for role, status in (("anonymous", 401), (None, 403)):
        context = browser.new_context(base_url=filled.url) if role else signed_in(browser, filled, role)
        assert {context.request.get(f"/lake/api/{path}").status for path in paths} == {status}
        context.close()
    context = browser.new_context(base_url=filled.url)
    assert context.request.get("/lake/static/lake.js").status == 401
    context.close()


def test_no_address_leads_out_of_the_lake(viewer: Page) -> None:
    for path in ("files?prefix=../", "files/preview?key=raw/../../x", "files/download?key=/etc/passwd", "quality/a/b"):
        answer = viewer.request.get(f"/lake/api/{path}")
        assert answer.status in (403, 404), path
    open_lake(viewer, "/files?prefix=elsewhere/")
    expect(viewer.get_by_role("alert")).to_contain_text("is in no zone of the lake")


def test_a_dead_aws_is_said_with_the_command_and_stalls_nothing(filled: RunningStack, viewer: Page) -> None:
    aws = filled.part("embedded AWS")
    aws.suspend()
    try:
        open_lake(viewer, "/quality")
        expect(viewer.get_by_role("alert")).to_contain_text("AWS did not answer within 2.5 s", timeout=8_000)
        assert viewer.request.get("/api/v2/version").ok
    finally:
        aws.resume()
    # The page asks again by itself.
    expect(viewer.get_by_role("link", name="datasets/aggregate")).to_be_visible()


def test_a_failed_gate_is_found_from_home_in_two_clicks(filled: RunningStack, viewer: Page) -> None:
    api = AirflowApi(filled.url, filled.user, filled.password)
    run = next(each for each in api.runs(["datasets_aggregate"], ["success"]) if staged_files(filled, each))
    break_staging(filled, run)
    clear = {"dry_run": False, "task_ids": ["check"], "dag_run_id": run.run_id, "only_failed": False}
    api.client.post("/api/v2/dags/datasets_aggregate/clearTaskInstances", json=clear).raise_for_status()
    eventually(lambda: api.task_states(run)["check"] == "failed")
    try:
        open_lake(viewer)
        card = viewer.get_by_role("listitem").filter(has_text="datasets_aggregate.check failed")
        expect(card.locator("code")).to_contain_text("sluice airflow")
        viewer.goto("/")
        panel = viewer.get_by_test_id("lake-verdict")
        panel.get_by_role("link", name="datasets_aggregate.check failed").click()
        broken = viewer.get_by_role("row").filter(has_text="sum of memory_count: as many as accepted rows")
        expect(broken.first).to_contain_text("failed")
    finally:
        # Tests after this one expect that no run has failed.
        api.client.delete(f"/api/v2/dags/datasets_aggregate/dagRuns/{run.run_id}").raise_for_status()


def staged_files(stack: RunningStack, run: DagRun) -> str:
    """Key of the list of what a run staged; "" where it found nothing to do."""
    slug = run.run_id.replace("+", "_").replace(":", "-")
    listed = stack.client("s3").list_objects_v2(Bucket="sluice-lake", Prefix=f"staging/datasets/{slug}/")
    keys = [each["Key"] for each in listed.get("Contents", [])]
    return next((key for key in keys if key.endswith("/files.json")), "")


def break_staging(stack: RunningStack, run: DagRun) -> None:
    """Let a run have accepted one row more than its aggregates hold."""
    s3, key = stack.client("s3"), staged_files(stack, run)
    staged = s3.get_object(Bucket="sluice-lake", Key=key)["Body"].read().decode()
    broken = re.sub(r'("accepted": ?)(\d+)', lambda found: f"{found[1]}{int(found[2]) + 1}", staged)
    assert broken != staged
    s3.put_object(Bucket="sluice-lake", Key=key, Body=broken.encode())


def test_every_page_is_accessible_in_both_themes_and_fits_a_telephone(filled: RunningStack, browser: Browser) -> None:
    context = signed_in(browser, filled, "viewer", viewport={"width": 390, "height": 844})
    page = context.new_page()
    open_lake(page)
    page.evaluate(AXE)
    # A colour on its way from one theme to the other is none of either.
    page.add_style_tag(content="* { transition: none !important }")
    for path in PAGES:
        open_lake(page, path)
        inner = page.get_by_test_id("lake")
        assert inner.evaluate("each => each.scrollWidth <= each.clientWidth"), f"{path} is wider than the screen"
        for theme in ("light", "dark"):
            page.evaluate("theme => { document.documentElement.className = theme }", theme)
            found = page.evaluate("axe.run('[data-testid=lake]', {resultTypes: ['violations']})")
            serious = [
                (path, theme, each["id"], node["html"][:200], node.get("failureSummary"))
                for each in found["violations"]
                if each["impact"] in ("serious", "critical")
                for node in each["nodes"]
            ]
            assert serious == []
    context.close()
