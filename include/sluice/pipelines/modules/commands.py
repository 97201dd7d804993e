"""`sluice modules show`: weekly diagnostics and their success rates."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

import click

from sluice.core.commands import AwsGroup
from sluice.core.console import Column, print_json_lines, print_table

if TYPE_CHECKING:
    from sluice.pipelines.modules.transform import Diagnostic

SHARE = click.FloatRange(0, 1)
COUNT = click.IntRange(min=1)
Command = TypeVar("Command", bound=Callable[..., Any])

EXAMPLES = 5
"""Number of rates in a message."""


@click.group(cls=AwsGroup)
def modules() -> None:
    """Show the success rates of modules."""


@modules.command()
@click.option("--module", "module_id", help="Only this module.")
@click.option("--limit", default=20, show_default=True, type=COUNT, help="Rows to print.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON Lines instead of a table.")
def show(module_id: str | None, limit: int, as_json: bool) -> None:
    """Weekly diagnostics and the rates that were published."""
    from sluice.pipelines.modules import storage
    from sluice.settings import load_settings

    name = load_settings().modules_diagnostic_table
    found = storage.read_all_diagnostics(name) if module_id is None else storage.read_diagnostics(name, module_id)
    rows = [_row(each) for each in islice(found, limit)]
    if module_id is not None and not rows:
        raise click.ClickException(f"there is no weekly diagnostic of module {module_id!r} in DynamoDB table {name}")
    if as_json:
        print_json_lines(rows)
        return
    names = ("module", "timestamp", "success rate", "attempts", "received", "counted from")
    columns = [Column(each, "text" if each == "module" else "number") for each in names]
    lines = []
    for row in rows:
        rate = row["success_rate"]
        shown = row["state"] if rate is None else f"{rate:.2f} %"
        lines.append((row["module"], row["timestamp"], shown, row["attempts"], row["received"], row["counted_from"]))
    print_table(columns, lines, title=f"DynamoDB table {name}")
    if module_id is not None:
        # All columns in one table would not fit 80 characters.
        click.echo()
        columns = [
            Column("timestamp", "number"),
            Column("judged (UTC)", "time"),
            Column("rule", "number"),
            Column("run"),
        ]
        print_table(columns, [[row["timestamp"], *_judged(row)] for row in rows])


def _judged(row: dict[str, Any]) -> tuple[object, ...]:
    at = row["judged_at"]
    return (at and at.replace(microsecond=0), row["rule_version"], row["judged_by"])


def _row(diagnostic: Diagnostic) -> dict[str, Any]:
    judged = diagnostic.judged
    return {
        "module": diagnostic.module_id,
        "timestamp": diagnostic.timestamp,
        "attempts": diagnostic.attempts,
        "received": judged.received if judged else None,
        "counted_from": judged.reset if judged else None,
        "success_rate": judged.success_rate if judged else None,
        "rule_version": judged.rule_version if judged else None,
        "judged_by": diagnostic.judged_by,
        "judged_at": diagnostic.judged_at,
        "state": "not judged yet" if judged is None else "rejected" if judged.success_rate is None else "published",
    }
