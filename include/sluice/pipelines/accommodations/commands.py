"""`sluice partners`: the priority list of partners, and the blocked partners."""

from __future__ import annotations

from collections.abc import Sequence

import click

from sluice.core.commands import AwsGroup, pasted
from sluice.core.console import Column, print_json_lines, print_table
from sluice.pipelines.accommodations import storage
from sluice.pipelines.accommodations.records import usable_partners
from sluice.settings import load_settings

SHARE = click.FloatRange(0, 1)
POSITIVE = click.IntRange(min=1)


class _PartnerName(click.ParamType[str]):
    """A value of `partner_name`."""

    name = "partner"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The name, if it is valid."""
        text = str(value)
        if not text.strip() or text != text.strip():
            self.fail(f"{text!r} is empty or has blanks around it; names are compared exactly", param, ctx)
        return text


JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON Lines instead of a table.")
NAMES = click.argument("names", nargs=-1, required=True, type=_PartnerName())


@click.group(cls=AwsGroup)
def partners() -> None:
    """Show and change the priority list and the blocked partners."""


@partners.command("set-priority")
@NAMES
def set_priority(names: tuple[str, ...]) -> None:
    """Replace the priority list by NAMES, the best first."""
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        click.echo(f"Named more than once, only the first place counts: {', '.join(repeated)}", err=True)
    table = load_settings().accommodations_priority_table
    storage.write_list(table, "PriorityList", list(dict.fromkeys(names)), storage.read_list(table, "PriorityList"))
    _print_lists(table)


@partners.command()
@NAMES
def block(names: tuple[str, ...]) -> None:
    """Never use records of NAMES, regardless of their place in the priority list."""
    table = load_settings().accommodations_priority_table
    before = storage.read_list(table, "BlockedList")
    storage.write_list(table, "BlockedList", list(dict.fromkeys([*(before or []), *names])), before)
    _print_lists(table)


@partners.command()
@NAMES
def unblock(names: tuple[str, ...]) -> None:
    """Use records of NAMES again."""
    table = load_settings().accommodations_priority_table
    before = storage.read_list(table, "BlockedList")
    unknown = sorted(set(names) - set(before or []))
    if unknown:
        raise click.ClickException(
            pasted(f"not blocked: {', '.join(unknown)}; `sluice partners show` lists blocked partners")
        )
    storage.write_list(table, "BlockedList", [name for name in before or [] if name not in names], before)
    _print_lists(table)


@partners.command()
@JSON
def show(as_json: bool) -> None:
    """The priority list and the blocked partners."""
    _print_lists(load_settings().accommodations_priority_table, as_json)


def _state(name: str, priority: Sequence[str], usable: Sequence[str]) -> str:
    if name in usable:
        return "used"
    return "blocked" if name in priority else "blocked, not in the priority list"


def _print_lists(table: str, as_json: bool = False) -> None:
    priority, blocked = storage.read_list(table, "PriorityList") or [], storage.read_list(table, "BlockedList") or []
    usable = usable_partners(priority, blocked)
    rows = [
        {
            "place": usable.index(name) + 1 if name in usable else None,
            "partner": name,
            "state": _state(name, priority, usable),
        }
        for name in dict.fromkeys([*priority, *blocked])
    ]
    if as_json:
        print_json_lines(rows)
        return
    if not priority:
        way_out = "nothing can be consolidated before `sluice partners set-priority NAME ...`"
        click.echo(pasted(f"There is no priority list: {way_out}"))
    columns = (Column("place", "number"), Column("partner"), Column("state"))
    print_table(columns, [tuple(row.values()) for row in rows], title=f"DynamoDB table {table}")
