"""Pages of docs/ that are written from the code: settings, commands, tables, and the index of decisions."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import click

from sluice.base_settings import PipelineSettings
from sluice.core.dictionary import Collection
from sluice.errors import SluiceError
from sluice.monitoring.dictionary import collections
from sluice.settings import PROJECT_ROOT, Settings

DECISIONS = PROJECT_ROOT / "docs" / "decisions"


class RecordUnreadable(SluiceError):
    """A decision record lacks its title or its status."""


GENERATED = "Written by `make docs` from {source}: edit that, not this page."

ENV_EXAMPLE_HEAD = """\
# All settings of this project, each with its default. Written by `make docs` from the code.
#
# To change one, put its line without the leading `#` into `.env` (this file copied, or one of your own), or set the
# variable in the shell, which wins over `.env`. A value that is not allowed is refused with what it may be.
"""
ENV_EXAMPLE_COMPOSE = """\
# === Docker Compose ===

# `make secrets` makes these where they are missing, and never changes one that is there.

# Password of the user `airflow` of PostgreSQL. It is set when the database is made: to change it later, change it
# there too. May be: letters and digits, since it becomes part of a URL.
# POSTGRES_PASSWORD=
"""

_WORDS = {
    r"^[a-z][a-z0-9-]{0,15}$": "a lower-case letter, then up to 15 of `a-z 0-9 -`",
    r"^(postgresql\+psycopg2|sqlite)://": (
        "`postgresql+psycopg2://user:password@host/name`, or `sqlite:///path` for tests"
    ),
    r"^[0-9a-fA-F.:]+$": "an IP address",
    r"^https?://.+/execution/$": "`http(s)://host:port/execution/`",
    r"^[a-z]{2}(-[a-z]+)+-\d$": "a region, such as `eu-central-1`",
    r"^https?://": "`http(s)://host:port`",
    r"^https?://[^/]+$": "`http(s)://host:port` without a path",
    r"^\d{12}$": "12 digits",
    r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$": "a bucket name: 3 to 63 of `a-z 0-9 . -`",
    r"^[a-z0-9_]{1,252}$": "1 to 252 of `a-z 0-9 _`",
    r"^[A-Za-z0-9_.-]{3,255}$": "3 to 255 of `A-Z a-z 0-9 _ . -`",
    r"^[A-Za-z0-9_.-]{1,128}$": "1 to 128 of `A-Z a-z 0-9 _ . -`",
    r"^([^@\s]+@[^@\s]+)?$": "an e-mail address",
}
"""Pattern of a setting -> the same in words."""

_SECTION = re.compile(r"^    # (.+)$")
_FIELD = re.compile(r"^    (\w+): ")


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    cells = [[cell.replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def page(title: str, source: str, *parts: str) -> str:
    """A whole page in Markdown."""
    return "\n\n".join([f"# {title}", GENERATED.format(source=source), *parts]) + "\n"


# Settings


def settings_page() -> str:
    """Every setting by section: variable, default, allowed values, description."""
    sections = [
        f"## {title}\n\n{table(['variable', 'default', 'may be', 'what it sets'], [_setting(name) for name in names])}"
        for title, names in setting_sections()
    ]
    return page(
        "Settings",
        "`include/sluice/settings.py` and the `settings.py` of each pipeline",
        "A setting is a variable of the environment, or a line `NAME=value` of the file `.env` in the project's folder;"
        " the environment wins. A value that is not allowed is refused with what it may be, and an unknown `SLUICE_...`"
        " name is a warning with the nearest setting. `.env.example` is a file to start from. Tasks read `.env` again"
        " when they start; restart `make up` after a change of the environment.",
        *sections,
    )


def setting_sections() -> Iterator[tuple[str, list[str]]]:
    """Title of each section of the settings and the names of its settings, in the order of the code.

    First those of no pipeline, by the comments between them, then the model of each pipeline.
    """
    title, names = "", list[str]()
    for line in inspect.getsource(Settings).splitlines():
        if (field := _FIELD.match(line)) and field[1] in Settings.model_fields:
            names.append(field[1])
        elif section := _SECTION.match(line):
            if names:
                yield title, names
            # A field of the base of all models.
            title, names = section[1], [] if title else ["environment"]
    yield title, names
    for model in Settings.__mro__:
        if issubclass(model, PipelineSettings) and model not in (PipelineSettings, Settings):
            pipeline = model.__module__.split(".")[-2]
            yield f"Pipeline {pipeline}", [name for name in inspect.get_annotations(model) if name != "model_config"]


def env_example() -> str:
    """`.env.example`: every setting with its default, as a comment."""
    lines = [ENV_EXAMPLE_HEAD]
    for title, names in setting_sections():
        lines.append(f"# === {title} ===\n")
        for name in names:
            field = Settings.model_fields[name]
            about = (field.description or "").strip().rstrip(".")
            allowed = _allowed(field).replace("`", "")
            text = f"{about[:1].upper()}{about[1:]}." + (f" May be: {allowed}." if allowed else "")
            default = _default(field.default).strip("`").replace("unset", "")
            lines += [f"# {line}" for line in textwrap.wrap(text, 118, break_long_words=False)]
            lines.append(f"# SLUICE_{name.upper()}={default}\n")
    return "\n".join([*lines, ENV_EXAMPLE_COMPOSE])


def _setting(name: str) -> list[str]:
    field = Settings.model_fields[name]
    return [f"`SLUICE_{name.upper()}`", _default(field.default), _allowed(field), field.description or ""]


def _default(value: object) -> str:
    if value is None or value == "":
        return "unset"
    if isinstance(value, Path):
        value = value.relative_to(PROJECT_ROOT)
    if isinstance(value, bool):
        value = str(value).lower()
    return f"`{','.join(value) if isinstance(value, tuple) else value}`"


def _allowed(field: Any) -> str:
    annotation = field.annotation
    if get_origin(annotation) is Literal:
        return " or ".join(f"`{value}`" for value in get_args(annotation))
    if annotation is bool:
        return "`true` or `false`"
    limits = {
        name: value
        for rule in field.metadata
        for name in ("ge", "gt", "le", "lt", "pattern")
        if (value := getattr(rule, name, None)) is not None
    }
    if pattern := limits.pop("pattern", None):
        return _WORDS.get(pattern, f"text like `{pattern}`")
    if {"ge", "le"} <= limits.keys():
        return f"{limits['ge']} to {limits['le']}"
    words = {"ge": "at least {}", "gt": "more than {}", "le": "at most {}", "lt": "less than {}"}
    return ", ".join(words[name].format(value) for name, value in limits.items())


# Commands


def commands_page(main: click.Group) -> str:
    """Every command with its arguments and options, from the command line itself."""
    sections = [
        _command(context, command) for context, command in _commands(main, click.Context(main, info_name="sluice"))
    ]
    return page(
        "Commands",
        "the command line",
        "In a checkout the program is `.venv/bin/sluice`. Rows are printed as a table, or with `--json` as JSON Lines."
        " Exit code 0 is success, 1 an error (one message that says what to do), 2 wrong usage.",
        *sections,
    )


def _commands(command: click.Command, context: click.Context) -> Iterator[tuple[click.Context, click.Command]]:
    """A command and all below it, groups first."""
    yield context, command
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            if not below.hidden:
                yield from _commands(below, click.Context(below, info_name=name, parent=context))


def _command(context: click.Context, command: click.Command) -> str:
    path = context.command_path
    level = "##" if len(path.split()) <= 2 else "###"
    parts = [f"{level} `{path}`", inspect.cleandoc(command.help or "").replace("\b", "").strip()]
    if not isinstance(command, click.Group):
        parts.append(f"```console\n{path} {' '.join(command.collect_usage_pieces(context))}\n```")
    rows = [_option(option, context) for option in command.params if isinstance(option, click.Option)]
    if rows:
        parts.append(table(["option", "default", "what it does"], [row for row in rows if row]))
    return "\n\n".join(part for part in parts if part)


def _option(option: click.Option, context: click.Context) -> list[str]:
    record = option.get_help_record(context)
    if record is None or "--help" in option.opts:
        return []
    names, _ = record
    default = "" if option.is_flag or option.default is None or not option.show_default else str(option.default)
    return [f"`{names}`", f"`{default}`" if default else "", option.help or ""]


# Tables


def tables_page() -> str:
    """The data dictionary: every table and every kind of file, field by field."""
    sections = []
    for owner, entries in collections().items():
        sections.append(f"## {'All pipelines' if owner == 'platform' else f'Pipeline `{owner}`'}")
        sections += [_collection(each, owner) for each in entries]
    rows = [[f"`{code}`", ", ".join(f"`{name}`" for name in names)] for code, names in sorted(_reasons().items())]
    sections += ["## Reason codes in quarantine", table(["reason", "pipelines"], rows)]
    return page(
        "Tables and files",
        "`dictionary.py` of each pipeline, the definitions of the Iceberg tables and the records' reason codes",
        "Names of tables are the defaults of their settings. All times are UTC. Types of Iceberg tables are those of"
        " Iceberg; of DynamoDB `S` text, `N` number, `BOOL` truth, `L` list, `M` map. How to read the tables:"
        " [Reading the tables](reading-tables.md).",
        *sections,
    )


def _collection(each: Collection, owner: str) -> str:
    facts = [
        ["stored as", each.kind],
        ["place", each.place],
        *([["partitioned by", each.partitioning]] if each.partitioning else []),
        [
            "written by",
            ", ".join(f"[`{dag}`](dags.md#{dag})" if "_" in dag else dag for dag in each.written_by) or "a person",
        ],
        ["owner", owner],
        ["fresh", each.fresh],
        ["kept", each.kept],
    ]
    fields = [[f"`{field.name}`", f"`{field.type}`", field.description, field.key] for field in each.fields]
    heads = ["field", "type", "holds", "key"]
    if not any(field.key for field in each.fields):
        heads, fields = heads[:3], [row[:3] for row in fields]
    return "\n\n".join(
        [f"### `{each.name}`", each.holds.rstrip(":.") + ".", table(facts[0], facts[1:]), table(heads, fields)]
    )


def _reasons() -> dict[str, list[str]]:
    """Reason code -> pipelines that reject a record with it."""
    from importlib import import_module

    found: dict[str, list[str]] = {}
    for pipeline in (each for each in collections() if each != "platform"):
        for reason in import_module(f"sluice.pipelines.{pipeline}.records").Reason:
            found.setdefault(str(reason), []).append(pipeline)
    return found


# Decisions


def decisions_page(folder: Path = DECISIONS) -> str:
    """The index of the decision records: number, title, date and status.

    Raises:
        RecordUnreadable: a record has no title, or no line `Status: <status>, <date>.`
    """
    rows = []
    for file in sorted(folder.glob("[0-9]*.md")):
        text = file.read_text(encoding="utf-8")
        title = re.match(r"# (\d+)\. (.+)\n", text)
        status = re.search(r"^Status: (.+?), (\d{4}-\d{2}-\d{2})\b", text, re.MULTILINE)
        if not title or not status:
            raise RecordUnreadable(f"{file}: begin with `# <number>. <title>` and a line `Status: <status>, <date>.`")
        rows.append([title[1], f"[{title[2]}]({file.name})", status[2], status[1]])
    return page("Decisions", "the records in `docs/decisions/`", table(["", "decision", "date", "status"], rows))
