"""Commands of the pipeline: `sluice partners`, `sluice accommodations read` and `sluice produce partners`."""

from __future__ import annotations

import secrets

import click
from rich.table import Table

from sluice.accommodations import storage
from sluice.accommodations.records import usable_partners
from sluice.console import console
from sluice.settings import load_settings

SHARE = click.FloatRange(0, 1)
POSITIVE = click.IntRange(min=1)


class _PartnerName(click.ParamType[str]):
    """A name as it stands in `partner_name`."""

    name = "partner"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The name, if a record could have it."""
        text = str(value)
        if not text.strip() or text != text.strip():
            self.fail(f"{text!r} is empty or has blanks around it; names are compared letter by letter", param, ctx)
        return text


NAMES = click.argument("names", nargs=-1, required=True, type=_PartnerName())


@click.group()
def partners() -> None:
    """Which partners come first, and which are never used."""


@partners.command("set-priority")
@NAMES
def set_priority(names: tuple[str, ...]) -> None:
    """Make NAMES the priority list, the best first; it replaces the list that there was."""
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        click.echo(f"Named more than once, counts at its first place: {', '.join(repeated)}", err=True)
    table = load_settings().partner_priority_table
    storage.write_list(table, "PriorityList", list(dict.fromkeys(names)), storage.read_list(table, "PriorityList"))
    _print_lists(table)


@partners.command()
@NAMES
def block(names: tuple[str, ...]) -> None:
    """Never use records of NAMES, wherever they stand in the priority list."""
    table = load_settings().partner_priority_table
    before = storage.read_list(table, "BlockedList")
    storage.write_list(table, "BlockedList", list(dict.fromkeys([*(before or []), *names])), before)
    _print_lists(table)


@partners.command()
@NAMES
def unblock(names: tuple[str, ...]) -> None:
    """Use records of NAMES again."""
    table = load_settings().partner_priority_table
    before = storage.read_list(table, "BlockedList")
    unknown = sorted(set(names) - set(before or []))
    if unknown:
        raise click.UsageError(f"not blocked: {', '.join(unknown)}")
    storage.write_list(table, "BlockedList", [name for name in before or [] if name not in names], before)
    _print_lists(table)


@partners.command()
def show() -> None:
    """The priority list, and who is blocked."""
    _print_lists(load_settings().partner_priority_table)


def _print_lists(table: str) -> None:
    priority, blocked = storage.read_list(table, "PriorityList"), storage.read_list(table, "BlockedList") or []
    if not priority:
        click.echo("There is no priority list: nothing can be consolidated before `sluice partners set-priority`.")
    usable = usable_partners(priority or [], blocked)
    shown = Table("place", "partner", "", title=f"DynamoDB table {table}")
    for name in dict.fromkeys([*(priority or []), *blocked]):
        is_listed = name in (priority or [])
        place = str(usable.index(name) + 1) if name in usable else "-"
        shown.add_row(place, name, "" if name in usable else "blocked" if is_listed else "blocked, on no list")
    console().print(shown)


@click.group()
def accommodations() -> None:
    """Look at the current catalogue."""


@accommodations.command()
@click.option("--id", "accommodation_id", help="Only this accommodation.")
@click.option("--limit", default=10, show_default=True, type=click.IntRange(min=0), help="Records to print.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON Lines instead of a table.")
def read(accommodation_id: str | None, limit: int, as_json: bool) -> None:
    """Read the current catalogue through the catalog, as an engine would."""
    import json

    from sluice.accommodations.publication import read_current

    rows = read_current().to_pylist()
    if accommodation_id is not None:
        rows = [row for row in rows if row["accommodation_id"] == accommodation_id]
    if as_json:
        for row in rows[:limit]:
            row["accommodation_data"] = json.loads(row["accommodation_data"])
            click.echo(json.dumps(row, ensure_ascii=False))
        return
    table = Table("accommodation", "partner", "data", box=None)
    for row in rows[:limit]:
        table.add_row(row["accommodation_id"], row["partner_name"], row["accommodation_data"])
    console().print(table)
    console().print(f"{len(rows)} accommodations, {min(limit, len(rows))} shown")


@click.command("partners")
@click.option("--partners", "partners_count", default=6, show_default=True, type=POSITIVE, help="How many partners.")
@click.option("--accommodations", default=1000, show_default=True, type=POSITIVE, help="Different accommodations.")
@click.option("--overlap", default=0.3, show_default=True, type=SHARE, help="Share that several partners have.")
@click.option(
    "--malformed",
    default=0.01,
    show_default=True,
    type=click.FloatRange(0, 1, max_open=True),
    help="Share that is to be rejected.",
)
@click.option("--record-bytes", default=250, show_default=True, type=POSITIVE, help="Size of a record, about.")
@click.option("--file-records", default=1000, show_default=True, type=POSITIVE, help="Records of a file at the most.")
@click.option("--seed", type=click.IntRange(min=0), help="Same seed: same files. At random if not given.")
def produce_partners(
    partners_count: int,
    accommodations: int,
    overlap: float,
    malformed: float,
    record_bytes: int,
    file_records: int,
    seed: int | None,
) -> None:
    """Drop files of partners, whose catalogues overlap, in the landing bucket."""
    from collections import Counter

    from sluice.accommodations.produce import Catalogues, produce

    seed = secrets.randbelow(2**32) if seed is None else seed
    what = Catalogues(partners_count, accommodations, overlap, malformed, record_bytes, file_records, seed)
    with console().status("dropping files"):
        made = produce(what)
    counts = made.counts
    console().print(
        f"{counts['files']} files with {counts['records']} records ({counts['malformed']} malformed), seed {seed}"
    )
    table = Table("partner", "accommodations that must come from it", box=None)
    for partner, number in sorted(Counter(partner for partner, _ in made.truth.values()).items()):
        table.add_row(partner, str(number))
    console().print(table)
