"""A reader of the pages finds what they point to: files, tests, targets of make, commands and settings."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from sluice.cli import main
from sluice.settings import PROJECT_ROOT, Settings

PAGES = [*PROJECT_ROOT.glob("*.md"), *(PROJECT_ROOT / "docs").rglob("*.md")]
GUIDES = [page for page in PAGES if "decisions" not in page.parts and page.name != "CHANGELOG.md"]
TARGETS = re.findall(r"^([a-z]+):", (PROJECT_ROOT / "Makefile").read_text(), re.MULTILINE)


def name(page: Path) -> str:
    return str(page.relative_to(PROJECT_ROOT))


def code(page: Path) -> str:
    """Code of a page: its blocks and what is in backticks, a line each."""
    text = page.read_text(encoding="utf-8")
    return "\n".join([*re.findall(r"```\w*\n(.*?)```", text, re.DOTALL), *re.findall(r"(?<!`)`([^`\n]+)`(?!`)", text)])


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_to_a_file_leads_to_one(page: Path) -> None:
    links = re.findall(r"\]\((?!https?://|mailto:|#)([^)#\s]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", GUIDES, ids=name)
def test_every_path_of_the_repository_that_a_page_names_exists(page: Path) -> None:
    paths = re.findall(r"`((?:tests|include|dags|infra|plugins|docs)/[\w./-]+)`", page.read_text(encoding="utf-8"))
    assert [path for path in paths if not (PROJECT_ROOT / path).exists()] == []


@pytest.mark.parametrize("page", [page for page in GUIDES if page.name != "upgrade.md"], ids=name)
def test_every_setting_that_a_page_names_is_one(page: Path) -> None:
    named = set(re.findall(r"\bSLUICE_[A-Z_]+[A-Z]\b(?!_|\.\.\.|<)", page.read_text(encoding="utf-8")))
    assert named <= {f"SLUICE_{field.upper()}" for field in Settings.model_fields}


@pytest.mark.parametrize("page", GUIDES, ids=name)
def test_every_command_that_a_page_names_can_be_typed(page: Path) -> None:
    wrong = [words for words in re.findall(r"(?:^|[\s$/(])sluice ([a-z][^\n#;|)]*)", code(page)) if not known(words)]
    assert wrong == []
    assert [target for target in re.findall(r"\bmake ([a-z]+)\b", code(page)) if target not in TARGETS] == []


def known(words: str) -> bool:
    """Whether these words begin with the path of a command, and have only options that it has."""
    command: click.Command = main
    context = click.Context(main)
    rest = words.split()
    while isinstance(command, click.Group) and rest:
        if rest[0].startswith("-"):
            break
        found = command.get_command(context, rest[0])
        if found is None:
            return False
        command, rest = found, rest[1:]
    if context.command is not command and command.context_settings.get("ignore_unknown_options"):
        return True
    options = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    return {word for word in rest if word.startswith("--") and word.isascii()} <= options | {"--help"}
