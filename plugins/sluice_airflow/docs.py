"""Describe every Dag in one Markdown page, from the Dags themselves: `python -m sluice_airflow.docs FOLDER`.

Started by `sluice docs` (sluice_dev.docs), which gives it a throw-away Airflow home: Dags are parsed, and no database
is asked. The page is written to the original standard output of the process, since Airflow logs to the current one.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from sluice_airflow.timetable import BackfillTimetable

if TYPE_CHECKING:
    from airflow.sdk import DAG
    from airflow.timetables.base import Timetable

INTRODUCTION = """\
# The Dags

Written by `make docs` from the files in `dags/`: edit those, not this page. All times are UTC. Names of buckets, queues
and tables are the default ones.
"""

HEADING = re.compile(r"#{1,5} ")
FENCE = re.compile(r" {0,3}(```|~~~)")


def page(dags: list[DAG]) -> str:
    """The whole page; the same text for the same Dags, in whichever order they come."""
    ordered = sorted(dags, key=lambda dag: dag.dag_id)
    sections = [INTRODUCTION, overview(ordered), *(section(dag) for dag in ordered)]
    return "\n".join(part.strip("\n") + "\n" for part in sections)


def overview(dags: list[DAG]) -> str:
    """One row a Dag."""
    rows = [
        [
            f"[`{dag.dag_id}`](#{dag.dag_id})",
            schedule_in_words(core_timetable(dag)),
            triggers(dag, dags),
            ", ".join(f"`{name}`" for name in written_assets(dag)),
            ", ".join(sorted(dag.tags)),
        ]
        for dag in dags
    ]
    return table(["Dag", "schedule", "triggered by", "writes assets", "tags"], rows)


def section(dag: DAG) -> str:
    """A Dag's own documentation, its parameters, its tasks in order and their graph."""
    parts = [f"## `{dag.dag_id}`", shift_headings((dag.doc_md or "").strip())]
    if dag.params:
        rows = [parameter_row(name, dag.params.get_param(name)) for name in dag.params]
        parts += ["### Defaults of the parameters", table(["parameter", "may be", "default", "what it does"], rows)]
    tasks = list(tasks_in_order(dag.task_group))
    rows = [
        [str(number), f"`{task.task_id}`", task_words(task), str(task.retries)] for number, task in enumerate(tasks, 1)
    ]
    parts += ["### Tasks", table(["", "task", "what it does", "retries"], rows), graph(tasks)]
    return "\n\n".join(part.strip("\n") for part in parts if part)


def shift_headings(text: str) -> str:
    """Markdown with every heading a level deeper, so that it nests below the heading of its Dag; code is left alone."""
    lines = []
    fence = ""
    for line in text.splitlines():
        marker = FENCE.match(line)
        if marker and not fence:
            fence = marker[1]
        elif marker and marker[1] == fence:
            fence = ""
        lines.append("#" + line if not fence and HEADING.match(line) else line)
    return "\n".join(lines)


def core_timetable(dag: DAG) -> Timetable:
    """The schedule as the scheduler and the web UI know it, which has words for it."""
    from airflow.serialization.encoders import coerce_to_core_timetable

    return coerce_to_core_timetable(dag.timetable)


def schedule_in_words(timetable: Timetable) -> str:
    """The part of a schedule that is a time, as the web UI says it; empty where there is none."""
    if timetable.asset_condition:
        by_time = getattr(timetable, "timetable", None)
        return schedule_in_words(by_time) if by_time else ""
    if not timetable.can_be_scheduled or isinstance(timetable, BackfillTimetable):
        return ""
    expression = getattr(timetable, "_expression", None)
    return timetable.description + (f" (`{expression}`)" if expression else "")


def triggers(dag: DAG, dags: list[DAG]) -> str:
    """Triggers of this Dag: assets and their writers, other Dags' tasks, its schedule, or a person."""
    timetable = core_timetable(dag)
    writers: dict[str, list[str]] = {}
    for other in dags:
        for name in written_assets(other):
            writers.setdefault(name, []).append(f"`{other.dag_id}`")
    found = [assets_in_words(timetable.asset_condition.as_expression(), writers)] if timetable.asset_condition else []
    found += [
        f"`{other.dag_id}`"
        for other in dags
        if any(getattr(task, "trigger_dag_id", None) == dag.dag_id for task in other.tasks)
    ]
    found += ["schedule"] if schedule_in_words(timetable) else []
    found += ["backfill"] if isinstance(timetable, BackfillTimetable) else []
    return ", or ".join(found) or "hand"


def assets_in_words(expression: dict[str, Any], writers: dict[str, list[str]]) -> str:
    """An asset condition in words: a name, its writers if Dags write it, `and` and `or`."""
    ((kind, value),) = expression.items()
    if kind in ("all", "any"):
        parts = [assets_in_words(each, writers) for each in value]
        words = (" and " if kind == "all" else " or ").join(parts)
        return f"({words})" if len(parts) > 1 else words
    name = value.get("name") or value["uri"]
    return f"asset `{name}`" + (f" of {' and '.join(writers[name])}" if name in writers else "")


def written_assets(dag: DAG) -> list[str]:
    """Names of the assets that its tasks write, sorted."""
    return sorted({outlet.name for task in dag.tasks for outlet in task.outlets if hasattr(outlet, "name")})


def tasks_in_order(group: Any) -> Iterator[Any]:
    """Tasks of a task group and the groups in it, each after those it waits for."""
    for node in group.topological_sort():
        if hasattr(node, "children"):
            yield from tasks_in_order(node)
        else:
            yield node


def task_words(task: Any) -> str:
    """A task's docstring in one line, or its operator; and its trigger rule where that is not the usual one."""
    # A mapped task does not take over the docstring of its function.
    docstring = getattr(getattr(task, "python_callable", None), "__doc__", None)
    words = " ".join((task.doc_md or docstring or f"`{task.operator_name}`").split())
    rule = str(task.trigger_rule.value)
    return words if rule == "all_success" else f"{words} Trigger rule: `{rule}`."


def parameter_row(name: str, parameter: Any) -> list[str]:
    """Name, what its schema lets in, default, description."""
    schema = parameter.schema
    values = schema.get("enum")
    types = schema.get("type", "any")
    may_be = (
        ", ".join(f"`{json.dumps(value)}`" for value in values)
        if values
        else " or ".join([types] if isinstance(types, str) else types)
    )
    limits = [f"{words} {schema[key]}" for key, words in (("minimum", "from"), ("maximum", "to")) if key in schema]
    examples = [f"such as `{schema['examples'][0]}`"] if "examples" in schema else []
    default = f"`{json.dumps(parameter.value, default=str)}`" if is_given(parameter.value) else "none: must be given"
    return [f"`{name}`", " ".join([may_be, *limits, *examples]), default, parameter.description or ""]


def is_given(value: Any) -> bool:
    """Whether a parameter has a default; None is one."""
    from airflow.sdk.definitions._internal.types import is_arg_set

    return bool(is_arg_set(value))


def graph(tasks: list[Any]) -> str:
    """Mermaid flowchart: a node a task, an edge for each that it waits for."""
    names = {task.task_id: f"t{number}" for number, task in enumerate(tasks, 1)}
    nodes = [f'    {name}["{task_id}"]' for task_id, name in names.items()]
    edges = [
        f"    {names[task.task_id]} --> {names[after]}"
        for task in tasks
        for after in sorted(task.downstream_task_ids, key=list(names).index)
    ]
    return "\n".join(["```mermaid", "flowchart LR", *nodes, *edges, "```"])


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; bars and line breaks in a cell do not end it."""
    cells = [[" ".join(cell.replace("|", "\\|").split()) for cell in row] for row in rows]
    lines = [header, ["---"] * len(header), *cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main(folder: str) -> None:
    """Write the page of the Dags in a folder to standard output; ends with 1 where a Dag cannot be read."""
    result = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    from airflow.dag_processing.dagbag import DagBag

    from sluice.settings import Settings

    # The page shows the defaults, independent of .env.
    Settings.model_config["env_file"] = None
    bag = DagBag(folder)
    if bag.import_errors:
        sys.exit("\n".join(f"{file}: {error}" for file, error in sorted(bag.import_errors.items())))
    if not bag.dags:
        sys.exit(f"{folder} holds no Dag")
    result.write(page(list(bag.dags.values())))
    result.close()


if __name__ == "__main__":
    main(sys.argv[1])
