"""`sluice new pipeline`: a working pipeline to start from, in the shape of the others."""

from __future__ import annotations

import keyword
import re
import subprocess
import sys
from pathlib import Path

import click

from sluice import pipelines
from sluice.cli import installed_commands
from sluice.errors import SluiceError
from sluice.settings import PROJECT_ROOT, Settings

TEMPLATES = Path(__file__).parent / "scaffold"
SUFFIX = ".template"
EXAMPLE = "orders"
"""Name of the pipeline that the templates hold, in file names and texts."""

FOLDERS = {
    "queue": ("every", "files", "queue"),
    "schedule": ("every", "files", "schedule"),
    "stream": ("every", "stream"),
}
"""Trigger -> folders of `TEMPLATES` that make up its pipeline."""

NAME = re.compile(r"[a-z][a-z0-9]{2,15}")
SETTINGS = Path("include/sluice/settings.py")


class NotMade(SluiceError):
    """The pipeline cannot be made; the message says why. Nothing was written."""


@click.group()
def new() -> None:
    """Create a pipeline of your own."""


@new.command()
@click.argument("name")
@click.option(
    "--trigger",
    required=True,
    type=click.Choice([*FOLDERS]),
    help="What starts a run: files that arrive (S3 -> SQS), a schedule that publishes a day, or records of a stream.",
)
def pipeline(name: str, trigger: str) -> None:
    """Write the pipeline NAME: package, Dag, template, sample, tests; `make check` passes and `make demo` runs it."""
    written = write(PROJECT_ROOT, name, trigger)
    for path in written:
        click.echo(f"  {path}")
    click.echo(
        f"Next: `make docs` writes the generated pages, `make check` and `make demo` show that it works. Then change"
        f" include/sluice/pipelines/{name}/records.py to your records."
    )


def write(root: Path, name: str, trigger: str) -> list[str]:
    """Write the files of a new pipeline.

    Args:
        root: the checkout.
        name: of the pipeline, as a Python module.
        trigger: one of `FOLDERS`.

    Returns:
        The files written, relative to the checkout; `include/sluice/settings.py` is the only one that was there before.

    Raises:
        NotMade: the name is not usable or taken, or a file is there already.
    """
    taken = {*pipelines.names(), "platform", "canary", "lake", *installed_commands()}
    if not NAME.fullmatch(name) or keyword.iskeyword(name):
        raise NotMade(f"{name!r} is not a name of a pipeline: 3 to 16 of a-z 0-9, beginning with a letter")
    if name in taken or any(field.startswith(f"{name}_") for field in Settings.model_fields):
        raise NotMade(f"{name!r} is taken; these are: {', '.join(sorted(taken))}, and each first word of a setting")
    made = {root / path: text for path, text in rendered(name, trigger).items()}
    made[root / SETTINGS] = with_settings((root / SETTINGS).read_text(), name)
    if there := [path for path in made if path.exists() and path != root / SETTINGS]:
        raise NotMade(f"{there[0].relative_to(root)} is there already")
    for path, text in made.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    # A name of another length breaks lines elsewhere.
    code = [str(path) for path in made if path.suffix == ".py"]
    subprocess.run([sys.executable, "-m", "ruff", "format", "--quiet", *code], check=True, cwd=root)
    return sorted(str(path.relative_to(root)) for path in made)


def rendered(name: str, trigger: str) -> dict[str, str]:
    """Path below the checkout -> text of each new file."""
    found = {}
    for folder in FOLDERS[trigger]:
        for file in sorted((TEMPLATES / folder).rglob(f"*{SUFFIX}")):
            path = str(file.relative_to(TEMPLATES / folder)).removesuffix(SUFFIX)
            found[named(path, name)] = named(file.read_text(), name)
    return found


def named(text: str, name: str) -> str:
    """A text of the example with another name."""
    for given in (str.lower, str.capitalize, str.upper):
        text = text.replace(given(EXAMPLE), given(name))
    return text


def with_settings(text: str, name: str) -> str:
    """`include/sluice/settings.py` with the model of the pipeline: its import, and as a base of `Settings`."""
    model = f"{name.capitalize()}Settings"
    imports = re.findall(r"^from sluice\.pipelines\.\w+\.settings import \w+$", text, re.MULTILINE)
    line = f"from sluice.pipelines.{name}.settings import {model}"
    text = text.replace("\n".join(imports), "\n".join(sorted([*imports, line])))
    return re.sub(
        r"^class Settings\(\n((?:    \w+,\n)+)", rf"class Settings(\n    {model},\n\1", text, flags=re.MULTILINE
    )
