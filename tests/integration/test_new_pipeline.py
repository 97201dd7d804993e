"""`sluice new pipeline` writes a pipeline that passes the checks and publishes its sample, for each trigger."""

from __future__ import annotations

import os
import shutil
import site
import subprocess
import venv
from pathlib import Path

import pytest

from sluice.settings import PROJECT_ROOT, Settings
from sluice_dev import new

COPIED = ("dags", "docs", "include", "infra", "plugins", "pyproject.toml", ".env.example", "docker-compose.yaml")
NEW = {
    "api": "queue",
    "abcdefghijklmnop": "queue",
    "day": "schedule",
    "abcdefghijklmnoq": "schedule",
    "bus": "stream",
    "abcdefghijklmnor": "stream",
}
"""Name -> trigger: for each trigger the shortest and the longest name."""

OF_EVERY_PIPELINE = "tests/unit/test_dictionary.py"
"""Unit tests of the project that compare what each pipeline declares with its template."""

PROMISES = ("tests/promises", "tests/integration/promises")
"""The suite that every Dag that publishes passes, and what it knows of each pipeline."""

SHORT = {name: trigger for name, trigger in NEW.items() if len(name) == 3}
"""One of each trigger: where the length of the name makes no difference."""

LINEAGE = """
import sys
from sluice.lake_views.lineage import Flow, paths
from sluice.pipelines import declaration
from sluice.settings import load_settings

settings = load_settings()
for name in sys.argv[1:]:
    source, published = (frozenset({asset.name}) for asset in declaration(name, settings).assets)
    ways = paths(settings, {f"{name}_process": Flow(source, published)})[name]
    print(name, *(node.kind for way in ways for node in way))
"""

PUBLISH = """
import importlib, sys
from datetime import UTC, datetime, timedelta
from sluice.core.tally import COUNTS
from sluice.deployment.deploy import deploy
from sluice.settings import load_settings

PUBLISHED = {"records_in": 3300, "published": 2970, "duplicates": 300, "quarantined": 30}


def process(trigger, steps, run):
    match trigger:
        case "queue":
            taken = steps.collect(run)
            if not taken:
                return None
            steps.transform(run)
        case "schedule":
            steps.transform(run, now - timedelta(days=1))
        case "stream" if not steps.drain(run):
            return None
    steps.check(run)
    tally = steps.publish(run, taken) if trigger == "queue" else steps.publish(run)
    return {name: tally[name] for name in COUNTS}


deploy(load_settings())
now = datetime.now(UTC)
for name, trigger in zip(sys.argv[1::2], sys.argv[2::2]):
    steps = importlib.import_module(f"sluice.pipelines.{name}.steps")
    sample = importlib.import_module(f"sluice_dev.samples.{name}").sample(now, live=False)
    for run, expected in (("first", PUBLISHED), ("again", PUBLISHED if trigger == "schedule" else None)):
        counts = process(trigger, steps, run)
        assert counts == expected, (name, run, counts)
    said, is_right = sample.check()
    assert is_right, said
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout with a new pipeline for each trigger, and a Python that imports it."""
    root = tmp_path_factory.mktemp("checkout")
    for name in COPIED:
        (shutil.copytree if (PROJECT_ROOT / name).is_dir() else shutil.copy)(PROJECT_ROOT / name, root / name)
    tests = [PROJECT_ROOT / OF_EVERY_PIPELINE, *(PROJECT_ROOT / "tests").glob("*.py")]
    tests += [path for folder in PROMISES for path in (PROJECT_ROOT / folder).glob("*.py")]
    for path in tests:
        copy = root / path.relative_to(PROJECT_ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    for name, trigger in NEW.items():
        new.write(root, name, trigger)
    venv.create(root / ".venv", symlinks=True)
    (packages,) = (root / ".venv" / "lib").glob("*/site-packages")
    first, *_ = site.getsitepackages()
    (packages / "copy.pth").write_text(f"{root / 'include'}\nimport site; site.addsitedir({first!r})\n")
    return root


def run(root: Path, *arguments: str) -> str:
    """What the copy's Python writes to standard output."""
    environment = os.environ | {"PYTHONPATH": ""}
    command = [str(root / ".venv" / "bin" / "python"), *arguments]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_new_pipeline_is_one_edit_of_a_file_that_was_there(checkout: Path) -> None:
    names = {*NEW}
    changed = [
        str(path.relative_to(PROJECT_ROOT))
        for name in COPIED
        for path in [PROJECT_ROOT / name, *(PROJECT_ROOT / name).rglob("*")]
        if path.is_file() and "__pycache__" not in path.parts
        if (checkout / path.relative_to(PROJECT_ROOT)).read_bytes() != path.read_bytes()
    ]
    assert changed == ["include/sluice/settings.py"]
    found = run(checkout, "-c", "from sluice import pipelines; print(*pipelines.names())").split()
    assert names < set(found)


def test_new_pipelines_pass_style_and_unit_tests(checkout: Path) -> None:
    run(checkout, "-m", "ruff", "check", "--no-cache", ".")
    run(checkout, "-m", "ruff", "format", "--no-cache", "--check", ".")
    packages = [f"include/sluice/pipelines/{name}" for name in SHORT]
    run(
        checkout,
        "-m",
        "mypy",
        "--follow-imports=silent",
        "--cache-dir",
        str(PROJECT_ROOT / ".mypy_cache" / "new"),
        *packages,
    )
    names = [OF_EVERY_PIPELINE, *(f"tests/unit/{name}" for name in NEW)]
    run(checkout, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--import-mode=importlib", *names)


def test_new_pipelines_have_pages_and_commands(checkout: Path) -> None:
    run(checkout, "-m", "sluice", "docs")
    for name, trigger in NEW.items():
        assert f"## `{name}_process`" in (checkout / "docs" / "dags.md").read_text()
        table = f"`{name}`" if trigger == "stream" else f"`curated/{name}`"
        assert f"### {table}" in (checkout / "docs" / "tables.md").read_text()
        assert f"sluice produce {name}" in (checkout / "docs" / "commands.md").read_text()
        assert (f"sluice {name} show" in (checkout / "docs" / "commands.md").read_text()) is (trigger != "stream")
    assert "# SLUICE_API_MAX_MESSAGES=100" in (checkout / ".env.example").read_text()


def test_new_pipelines_are_in_the_lineage_from_source_to_reader(checkout: Path) -> None:
    kinds = dict(line.split(" ", 1) for line in run(checkout, "-c", LINEAGE, *NEW).splitlines())
    by_trigger = {
        "queue": "source queue dag dag files reader",
        "schedule": "source dag dag files reader",
        "stream": "source stream dag dag table reader",
    }
    assert kinds == {name: by_trigger[trigger] for name, trigger in NEW.items()}


def test_new_pipelines_publish_their_samples_once(checkout: Path, settings: Settings) -> None:
    assert settings.target == "embedded"
    run(checkout, "-c", PUBLISH, *(each for pair in SHORT.items() for each in pair))


@pytest.mark.timeout(600)
def test_new_pipelines_keep_the_promises_of_every_pipeline(checkout: Path) -> None:
    chosen = " or ".join(["every_dag", *(f"{name}_process" for name in SHORT)])
    run(checkout, "-m", "pytest", "-q", "-p", "no:cacheprovider", PROMISES[1], "-k", chosen)


@pytest.mark.parametrize("name", ["events", "platform", "My", "a", "class", "x-y", "table", "status"])
def test_a_name_that_cannot_be_used_is_refused_and_nothing_written(name: str, tmp_path: Path) -> None:
    with pytest.raises(new.NotMade, match=repr(name)):
        new.write(tmp_path, name, "queue")
    assert list(tmp_path.iterdir()) == []
