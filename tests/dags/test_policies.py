"""What a user may rely on in every Dag of this project."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, NoCredentialsError

from sluice import pipelines
from sluice.core.quality import GateFailed
from sluice.errors import SluiceError, TerminalError
from sluice.settings import PROJECT_ROOT
from sluice_dev.samples.sample import tally_tasks

TALLY_TASKS = tally_tasks()

FILES = sorted((PROJECT_ROOT / "dags").glob("*.py"))
IDS = [file.stem for file in FILES]

HEADINGS = ["What it does", "Triggered by", "Parameters", "Reads and writes", "Running it again"]
PIPELINES = {*pipelines.names(), "platform"}
KINDS = {"ingest", "aggregate", "process", "rebuild", "redrive", "maintenance"}
HEAVY = ("pandas", "numpy", "pyarrow", "duckdb", "great_expectations", "pyspark", "sqlglot")

EACH_FILE = """
import json, os, runpy, sys
before = set(sys.modules)
from airflow.sdk import dag, task  # what every file imports, read once
for file in json.loads(sys.argv[1]):
    # A child each: what one file imports must not hide in what another one did before.
    pid = os.fork()
    if pid == 0:
        runpy.run_path(file)
        imported = {name.partition(".")[0] for name in set(sys.modules) - before}
        print("\\n" + json.dumps([file, sorted(imported)]), flush=True)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    if status:
        sys.exit(f"{file} cannot be read alone")
"""


@pytest.fixture(params=IDS)
def dag(request: pytest.FixtureRequest, dags: dict[str, Any]) -> Any:
    """Each Dag in turn; a file holds the Dag of its name."""
    return dags[request.param]


def test_what_a_task_returns_is_stored_once_and_not_again_key_by_key(dag: Any) -> None:
    """Airflow stores each key of a dict by a request of its own where the function is annotated to return one."""
    for task in dag.tasks:
        given = getattr(task, "partial_kwargs", {}) | vars(task)
        assert not given.get("multiple_outputs"), f"{task.task_id}: annotate no dict as what it returns"


def test_the_folder_holds_dags_and_each_file_the_one_of_its_name(dags: dict[str, Any]) -> None:
    assert len(dags) >= 3
    assert {dag_id: Path(dag.fileloc).stem for dag_id, dag in dags.items()} == {name: name for name in IDS}


def test_the_demo_reads_the_tallies_of_tasks_that_are_there(dags: dict[str, Any]) -> None:
    assert {name: task_id for name, task_id in TALLY_TASKS.items() if dags[name].has_task(task_id)} == TALLY_TASKS


def test_the_page_of_a_dag_answers_the_five_questions_in_order(dag: Any) -> None:
    summary, *parts = re.split(r"^## (.+)\n", dag.doc_md, flags=re.MULTILINE)
    assert parts[::2] == HEADINGS
    assert all(text.strip() for text in [summary, *parts[1::2]])
    assert len(summary.strip().splitlines()[0]) <= 120


def test_every_task_says_what_it_does(dag: Any) -> None:
    for task in dag.tasks:
        said = task.doc_md or task.doc or getattr(getattr(task, "python_callable", None), "__doc__", None)
        assert said or task.task_type not in ("_PythonDecoratedOperator", "ShortCircuitDecoratedOperator"), task.task_id


def test_a_dag_is_found_by_its_pipeline_and_by_what_it_does(dag: Any) -> None:
    assert len(dag.tags & PIPELINES) == 1
    assert len(dag.tags & KINDS) == 1
    assert len(dag.tags) == 2
    assert dag.dag_id.startswith(min(dag.tags & PIPELINES))


def test_a_task_has_an_owner_is_retried_and_does_not_run_for_ever(dag: Any) -> None:
    for task in dag.tasks:
        assert task.owner == "sluice", task.task_id
        assert task.retries >= 1, task.task_id
        # The timeout of a sensor counts from its first attempt, over all of them.
        if task.execution_timeout is None:
            assert hasattr(task, "wait_minutes"), f"{task.task_id} has the time of its form, at most a day"
            assert dag.params.get_param("wait_minutes").schema["maximum"] <= 24 * 60
        else:
            assert isinstance(task.execution_timeout, timedelta), task.task_id


def test_what_only_a_person_can_change_is_not_retried_and_all_else_is(dag: Any) -> None:
    for task in dag.tasks:
        if task.task_type == "EmptyOperator":
            continue
        expired = ClientError({"Error": {"Code": "ExpiredToken"}}, "ListObjectsV2")
        for error in (GateFailed("bad data"), TerminalError("no such queue"), expired, NoCredentialsError()):
            assert task.retry_policy.evaluate(error, 1, 2).action.value == "fail", task.task_id
        assert task.retry_policy.evaluate(SluiceError("throttled"), 1, 2).action.value == "default", task.task_id
        assert task.retry_policy.evaluate(ConnectionError(), 1, 2).action.value == "default", task.task_id


def test_a_dag_keeps_to_few_meaningful_tasks(dag: Any) -> None:
    """As its page shows them: a task group is one node until it is opened."""
    assert 2 <= len(dag.task_group.children) <= 8
    for group in dag.task_group.get_task_group_dict().values():
        assert len(group.children) <= 8


@pytest.mark.parametrize("file", FILES, ids=IDS)
def test_catchup_and_concurrent_runs_are_set_and_not_the_default(file: Path) -> None:
    (decorator,) = [
        each
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef)
        for each in node.decorator_list
        if isinstance(each, ast.Call) and ast.unparse(each.func) == "dag"
    ]
    given = {keyword.arg for keyword in decorator.keywords}
    assert {"schedule", "start_date", "catchup", "max_active_runs", "default_args", "tags", "doc_md"} <= given


def test_start_dates_and_schedules_are_in_utc(dag: Any) -> None:
    assert dag.start_date.utcoffset() == timedelta(0)
    assert str(dag.timezone) == "UTC"


@cache
def imports() -> dict[str, set[str]]:
    """Dag file -> top-level packages that reading it alone imports."""
    environment = {name: value for name, value in os.environ.items() if name.startswith("AIRFLOW")}
    environment |= {"PATH": os.environ.get("PATH", ""), "PYTHONPATH": str(PROJECT_ROOT / "plugins")}
    files = json.dumps([str(file) for file in FILES])
    done = subprocess.run(
        [sys.executable, "-c", EACH_FILE, files], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('["')]
    return {file: set(imported) for file, imported in lines}


@pytest.mark.parametrize("file", FILES, ids=IDS)
def test_reading_a_dag_file_imports_nothing_heavy(file: Path) -> None:
    # Each task pays again for what its Dag file imports.
    assert imports()[str(file)] & set(HEAVY) == set()


@pytest.mark.parametrize("file", FILES, ids=IDS)
def test_parsing_a_dag_file_imports_no_boto3_without_an_amazon_operator(file: Path) -> None:
    operators_of_amazon = ("airflow.providers.amazon", "sluice_airflow.sensors")
    if not any(module in file.read_text() for module in operators_of_amazon):
        assert "boto3" not in imports()[str(file)]


@pytest.mark.parametrize("file", FILES, ids=IDS)
def test_no_dag_file_decides_by_itself_which_errors_are_retried(file: Path) -> None:
    text = file.read_text()
    assert "retry_policy" not in text
    assert "AirflowFailException" not in text


def test_a_field_of_a_trigger_form_has_a_title_and_an_example(dag: Any) -> None:
    """The form opens with the fields that have no section; those of a section are behind a click."""
    if dag.params:
        assert any("section" not in dag.params.get_param(name).schema for name in dag.params)
    for name in dag.params:
        parameter = dag.params.get_param(name)
        schema = parameter.schema
        assert schema.get("title"), name
        assert parameter.description, name
        assert "pattern" not in schema, (
            f"{name} is refused with its regular expression: use a format of sluice_airflow.forms"
        )
        if "string" in schema["type"] and not {"enum", "format"} & set(schema):
            assert schema.get("examples"), name


def test_a_backfill_is_offered_where_a_dag_processes_past_intervals(dag: Any) -> None:
    triggers = re.split(r"^## (.+)\n", dag.doc_md, flags=re.MULTILINE)[4]
    offers = dag.timetable.can_be_scheduled and (dag.allowed_run_types is None or "backfill" in dag.allowed_run_types)
    assert offers == ("airflow backfill create" in triggers)


def refusal(dag: Any, name: str, value: object) -> str:
    """What a user reads who triggers a run with a value; "" where it is accepted."""
    from airflow.exceptions import ParamValidationError
    from airflow.serialization.serialized_objects import DagSerialization

    stored = DagSerialization.from_dict(DagSerialization.to_dict(dag))
    try:
        stored.params.deep_merge({name: value}).validate()
    except ParamValidationError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("dag_id", "name", "value", "words"),
    [
        ("datasets_aggregate", "source", "elsewhere/x.csv", "is not below s3://sluice-landing/datasets/: give such an"),
        ("datasets_aggregate", "source", "http://host/x.csv", "is not https: a CSV is only fetched from https URLs"),
        ("datasets_await", "source", "https://host/x.csv", "is a URL, whose arrival cannot be awaited"),
        ("events_hourly", "hour", "2024-04-07", "has no date and hour: write it like 2024-04-07T17:00:00+00:00"),
        ("events_hourly", "hour", "yesterday", "has no date and hour: write it like 2024-04-07T17:00:00+00:00"),
        ("events_hourly", "hour", "", "has no date and hour: write it like 2024-04-07T17:00:00+00:00"),
        ("events_hourly", "hour", "2024-04-31T17:00", "write it like 2024-04-07T17:00:00+00:00"),
        ("events_rebuild", "day", "2024-04-31", "write it like 2024-04-07"),
    ],
)
def test_a_wrong_value_of_a_trigger_form_is_refused_in_words(
    dag_id: str, name: str, value: str, words: str, dags: dict[str, Any]
) -> None:
    refused = refusal(dags[dag_id], name, value)
    assert refused.startswith(f"Invalid input for param {name}: ")
    assert words in refused
    assert "schema" not in refused


@pytest.mark.parametrize("hour", [None, "2024-04-07T17", "2024-04-07T17:00:00+00:00", "2024-04-07T17:00:00.000Z"])
def test_an_hour_in_iso_8601_is_accepted(hour: str | None, dags: dict[str, Any]) -> None:
    assert refusal(dags["events_hourly"], "hour", hour) == ""
