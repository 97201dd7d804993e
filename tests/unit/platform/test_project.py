"""What a contributor relies on: one version, the same checks in hooks, in make and in the workflows, pinned actions."""

from __future__ import annotations

import re
import shlex
import subprocess
import tomllib
from typing import Any

import yaml

from sluice.settings import PROJECT_ROOT

VERSION = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text())["project"]["version"]
MAKEFILE = (PROJECT_ROOT / "Makefile").read_text()
WORKFLOWS: list[dict[str, Any]] = [
    yaml.safe_load(file.read_text()) for file in sorted((PROJECT_ROOT / ".github" / "workflows").glob("*.yaml"))
]
STEPS = [step for workflow in WORKFLOWS for job in workflow["jobs"].values() for step in job["steps"]]


def test_the_changelog_describes_this_version_after_what_is_unreleased() -> None:
    headings = re.findall(r"^## \[(.+?)\]", (PROJECT_ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[:2] == ["Unreleased", VERSION]


def test_no_file_but_pyproject_spells_the_version_of_the_wheel() -> None:
    names = subprocess.run(
        ["git", "grep", "-l", "-E", r"sluice-[0-9]+\.[0-9]+\.[0-9]+", "--", ":!CHANGELOG.md"],
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
    ).stdout
    assert names == ""


def test_a_commit_hook_runs_the_tools_of_make_lint() -> None:
    recipe = re.search(r"^lint:.*\n((?:\t.+\n)+)", MAKEFILE, re.MULTILINE)
    assert recipe
    of_make = set(re.findall(r"\$\(RUN\) ([a-z-]+)", recipe[1]))
    hooks = yaml.safe_load((PROJECT_ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [repository["repo"] for repository in hooks] == ["local"]
    of_hooks = {shlex.split(hook["entry"])[0].removeprefix(".venv/bin/") for hook in hooks[0]["hooks"]}
    assert of_hooks == of_make


def test_every_action_of_the_workflows_is_pinned_to_a_commit() -> None:
    used = [step["uses"] for step in STEPS if "uses" in step]
    assert used
    assert [each for each in used if not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", each)] == []


def test_the_workflows_call_targets_that_make_has() -> None:
    called = {word for step in STEPS for word in re.findall(r"\bmake ([a-z-]+)", step.get("run", ""))}
    assert {"check", "test", "secrets", "package"} <= called
    assert called <= set(re.findall(r"^([a-z-]+):.*## ", MAKEFILE, re.MULTILINE))
