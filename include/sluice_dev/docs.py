"""`sluice docs`: the pages of docs/ that are written from the code."""

from __future__ import annotations

import difflib
import os
import subprocess
import sys
from pathlib import Path

import click

from sluice.core.scratch import scratch_folder
from sluice.environment import airflow_environment
from sluice.errors import SluiceError
from sluice.settings import PROJECT_ROOT, Settings
from sluice_dev import reference

FOLDER = PROJECT_ROOT / "docs"
DAGS = PROJECT_ROOT / "dags"


class DocsFailed(SluiceError):
    """A Dag cannot be read, or a page is not what the code says."""


def render(dags_folder: Path = DAGS) -> str:
    """The page of the Dags in a folder, in Markdown.

    It shows the defaults of settings, independent of the environment and `.env`.

    Raises:
        DocsFailed: a Dag cannot be read; the message is Airflow's.
    """
    with scratch_folder("docs") as home:
        done = subprocess.run(
            [sys.executable, "-m", "sluice_airflow.docs", str(dags_folder)],
            env=_environment(home, dags_folder),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
        )
    if done.returncode:
        last = "\n  ".join(done.stderr.splitlines()[-20:])
        raise DocsFailed(f"the Dags in {dags_folder} cannot be read:\n  {last}")
    return done.stdout


def _environment(home: Path, dags_folder: Path) -> dict[str, str]:
    """Variables of an Airflow that exists for this page only; it never opens its database."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("SLUICE_", "AIRFLOW"))}
    defaults = Settings.model_construct(home=home)
    return (
        inherited
        | airflow_environment(defaults, f"sqlite:///{home}/airflow.db", secret="of no use")
        | {
            "AIRFLOW__CORE__DAGS_FOLDER": str(dags_folder),
            "PYTHONPATH": str(PROJECT_ROOT / "plugins"),
            # Schedules are put into words of the locale.
            "LC_ALL": "C.UTF-8",
        }
    )


def pages() -> dict[str, str]:
    """Path below docs/ of every generated page -> its text.

    Raises:
        DocsFailed: a Dag cannot be read.
    """
    from sluice.cli import main

    return {
        "dags.md": render(),
        "settings.md": reference.settings_page(),
        "commands.md": reference.commands_page(main),
        "tables.md": reference.tables_page(),
        "decisions/index.md": reference.decisions_page(),
        "../.env.example": reference.env_example(),
    }


def difference(name: str, before: str, after: str) -> str:
    """What changes between two versions of a page, as a unified diff; empty where nothing does."""
    lines = difflib.unified_diff(
        before.splitlines(keepends=True), after.splitlines(keepends=True), f"docs/{name}", "what the code says"
    )
    return "".join(lines)


@click.command(name="docs")
@click.option("--check", is_flag=True, help="Write nothing; exit code 1 and a diff when a page is stale.")
def docs(check: bool) -> None:
    """Write the generated pages of docs/ anew: Dags, settings, commands, tables, index of decisions."""
    stale = []
    for name, text in pages().items():
        file = FOLDER / name
        before = file.read_text(encoding="utf-8") if file.exists() else ""
        if before == text:
            continue
        if check:
            stale.append(difference(name, before, text))
        else:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
    if stale:
        raise DocsFailed("pages of docs/ are stale, run `make docs`:\n" + "\n".join(stale))
