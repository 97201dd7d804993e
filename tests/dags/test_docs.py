"""The generated pages of docs/ say what the code says, and a stale one fails `make lint`."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from sluice_dev.docs import FOLDER, DocsFailed, docs, pages, render

SAMPLE = '''
"""First line.

## What it does

```python
# a comment in code is no heading
```

### A part of it
"""

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import (
    Asset, AssetOrTimeSchedule, CronDataIntervalTimetable, CronTriggerTimetable, Param, dag, task, task_group,
)

from sluice.settings import load_settings

ORDERS, PRICES = Asset("orders"), Asset("prices")


@dag(
    schedule=CronDataIntervalTimetable("30 6 * * 1", timezone="UTC"),
    params={
        "dry_run": Param(True, type="boolean", description="only say | show what would be done"),
        "days": Param(3, type="integer", minimum=1, maximum=9),
        "mode": Param("fast", enum=["fast", "slow"]),
    },
    tags=["z", "a"],
    doc_md=__doc__,
)
def weekly():
    @task(retries=7, outlets=[PRICES, ORDERS])
    def last():
        """Written first,

        runs | last.
        """

    @task
    def each(number: int):
        """One a number."""

    @task_group
    def middle():
        return each.expand(number=[1, 2])

    first = EmptyOperator(task_id="first")
    mopped = EmptyOperator(task_id="mop_up", trigger_rule="all_done")
    done = last()
    first >> middle() >> done >> mopped


@dag(schedule=AssetOrTimeSchedule(timetable=CronTriggerTimetable("0 * * * *", timezone="UTC"), assets=ORDERS | PRICES))
def on_either():
    TriggerDagRunOperator(task_id="pass_on", trigger_dag_id="by_hand")


@dag(schedule=[ORDERS, PRICES])
def on_both():
    EmptyOperator(task_id="nothing")


@dag(schedule=None, params={"bucket": Param(type=["string", "null"])})
def by_hand():
    EmptyOperator(task_id="nothing")


@dag(schedule=None, dag_id=f"in_{load_settings().environment}")
def named_by_a_setting():
    EmptyOperator(task_id="nothing")


weekly(), on_either(), on_both(), by_hand(), named_by_a_setting()
'''


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of the sample Dags, written by someone with settings and a language of their own."""
    folder = tmp_path_factory.mktemp("dags")
    (folder / "sample.py").write_text(SAMPLE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLUICE_ENVIRONMENT", "mine")
        patch.setenv("AIRFLOW__CORE__DAGS_FOLDER", "elsewhere")
        patch.setenv("LC_ALL", "de_DE.UTF-8")
        return render(folder)


def row(page: str, start: str) -> list[str]:
    """Cells of the one row whose first cell starts so."""
    (found,) = [line for line in page.splitlines() if line.startswith(f"| {start}")]
    return [cell.strip() for cell in found.replace("\\|", "¦").strip("|").split("|")]


def test_the_pages_in_the_repository_are_those_of_the_code() -> None:
    for name, text in pages().items():
        assert (FOLDER / name).read_text(encoding="utf-8") == text, name


@pytest.mark.parametrize(
    ("dag_id", "schedule", "triggered_by"),
    [
        ("weekly", "At 06:30, only on Monday (`30 6 * * 1`)", "schedule"),
        (
            "on_either",
            "Every hour (`0 * * * *`)",
            "(asset `orders` of `weekly` or asset `prices` of `weekly`), or schedule",
        ),
        ("on_both", "", "(asset `orders` of `weekly` and asset `prices` of `weekly`)"),
        ("by_hand", "", "`on_either`"),
        ("in_dev", "", "hand"),
    ],
)
def test_the_overview_says_what_starts_a_dag(sample: str, dag_id: str, schedule: str, triggered_by: str) -> None:
    assert row(sample, f"[`{dag_id}`](#{dag_id})")[1:3] == [schedule, triggered_by]


def test_the_overview_lists_assets_and_tags_in_one_order(sample: str) -> None:
    assert row(sample, "[`weekly`]")[3:] == ["`orders`, `prices`", "a, z"]
    assert sample.index("## `by_hand`") < sample.index("## `on_both`") < sample.index("## `weekly`")


def test_headings_of_a_dag_nest_below_it_and_code_is_left_alone(sample: str) -> None:
    lines = sample[sample.index("## `weekly`") :].splitlines()
    assert [line for line in lines if line.startswith("#")] == [
        "## `weekly`",
        "### What it does",
        "# a comment in code is no heading",
        "#### A part of it",
        "### Defaults of the parameters",
        "### Tasks",
    ]


@pytest.mark.parametrize(
    ("name", "rest"),
    [
        ("dry_run", ["boolean", "`true`", "only say ¦ show what would be done"]),
        ("days", ["integer from 1 to 9", "`3`", ""]),
        ("mode", ['`"fast"`, `"slow"`', '`"fast"`', ""]),
        ("bucket", ["string or null", "none: must be given", ""]),
    ],
)
def test_a_parameter_is_listed_with_its_default_and_limits(sample: str, name: str, rest: list[str]) -> None:
    assert row(sample, f"`{name}`")[1:] == rest


def test_tasks_are_in_run_order_with_docstring_retries_and_trigger_rule(sample: str) -> None:
    weekly = sample[sample.index("## `weekly`") :]
    assert [row(weekly, f"{number} |") for number in range(1, 5)] == [
        ["1", "`first`", "`EmptyOperator`", "0"],
        ["2", "`middle.each`", "One a number.", "0"],
        ["3", "`last`", "Written first, runs ¦ last.", "7"],
        ["4", "`mop_up`", "`EmptyOperator` Trigger rule: `all_done`.", "0"],
    ]


def test_the_graph_has_a_node_for_each_task_and_an_edge_for_each_wait(sample: str) -> None:
    weekly = sample[sample.index("## `weekly`") :]
    graph = weekly[weekly.index("```mermaid\n") :].splitlines()[1:-1]
    assert graph == [
        "flowchart LR",
        '    t1["first"]',
        '    t2["middle.each"]',
        '    t3["last"]',
        '    t4["mop_up"]',
        "    t1 --> t2",
        "    t2 --> t3",
        "    t3 --> t4",
    ]


def test_a_dag_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("from airflow.sdk import dag\nimport no_such_module\n")
    with pytest.raises(DocsFailed, match=r"(?s)broken\.py.*no_such_module"):
        render(tmp_path)


def test_a_folder_without_dags_is_no_page(tmp_path: Path) -> None:
    with pytest.raises(DocsFailed, match="holds no Dag"):
        render(tmp_path)


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the page of the Dags is written in a test; the Dags say `new`."""
    monkeypatch.setattr("sluice_dev.docs.FOLDER", tmp_path)
    monkeypatch.setattr("sluice_dev.docs.render", lambda: "# The Dags\nnew\n")
    CliRunner().invoke(docs, [])
    return tmp_path / "dags.md"


def test_check_names_a_stale_page_and_the_way_out_and_writes_nothing(page: Path) -> None:
    page.write_text("# The Dags\nold\n")
    with pytest.raises(DocsFailed, match=r"(?s)make docs.*docs/dags.md.*-old\n\+new"):
        docs.main(["--check"], standalone_mode=False)
    assert page.read_text() == "# The Dags\nold\n"


def test_a_missing_page_is_stale(page: Path) -> None:
    page.unlink()
    assert CliRunner().invoke(docs, ["--check"]).exit_code == 1


def test_the_pages_that_docs_writes_pass_the_check(page: Path) -> None:
    assert page.read_text() == "# The Dags\nnew\n"
    assert CliRunner().invoke(docs, ["--check"]).exit_code == 0
