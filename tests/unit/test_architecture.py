"""Rules of every module: the logic runs without Airflow, and unused heavy imports are not loaded."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import sluice

INCLUDE = Path(sluice.__file__).parents[1]
PACKAGE = INCLUDE / "sluice"
FILES = sorted(set(INCLUDE.rglob("*.py")) - {PACKAGE / "__main__.py"})


def module_name(file: Path) -> str:
    return ".".join(file.relative_to(INCLUDE).with_suffix("").parts).removesuffix(".__init__")


MODULES = [module_name(file) for file in FILES]
HEAVY = ("airflow", "pandas", "numpy", "pyarrow", "pyiceberg", "duckdb", "great_expectations", "pyspark", "sqlglot")
EACH_MODULE = """
import importlib, json, os, sys
import boto3, click, httpx, pydantic_settings, rich.console, rich.table  # what most import, read once
heavy, modules = json.loads(sys.argv[1]), json.loads(sys.argv[2])
for name in modules:
    # A child each: what one module imports must not hide in what another one did before.
    pid = os.fork()
    if pid == 0:
        importlib.import_module(name)
        found = [top for top in heavy if top in sys.modules]
        print(json.dumps([name, found]), flush=True)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    if status:
        sys.exit(f"{name} cannot be imported alone")
"""


def run_python(*arguments: str) -> str:
    environment = {"PATH": os.environ.get("PATH", ""), "PYTHONPATH": str(INCLUDE)}
    done = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@cache
def heavy_imports() -> dict[str, list[str]]:
    """Module -> the heavy packages that are in sys.modules once it alone was imported."""
    lines = run_python("-c", EACH_MODULE, json.dumps(HEAVY), json.dumps(MODULES)).splitlines()
    return dict(json.loads(line) for line in lines)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_is_imported_without_airflow_and_without_anything_heavy(module: str) -> None:
    assert heavy_imports()[module] == []


@pytest.mark.parametrize("file", FILES, ids=MODULES)
def test_no_module_imports_airflow_anywhere(file: Path) -> None:
    imported = {
        name.partition(".")[0]
        for node in ast.walk(ast.parse(file.read_text()))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom) and not node.level
            else []
        )
    }
    assert "airflow" not in imported
    assert "sluice_airflow" not in imported


SETTINGS_OF_PIPELINES = tuple(module for module in MODULES if re.fullmatch(r"sluice\.pipelines\.\w+\.settings", module))
LAYERS = (
    ("sluice_dev",),
    ("sluice.__main__",),
    ("sluice.cli",),
    ("sluice.deployment", "sluice.environment"),
    ("sluice.lake_views",),
    ("sluice.monitoring",),
    ("sluice.pipelines",),
    ("sluice.core",),
    ("sluice.aws", "sluice.engines"),
    ("sluice.lake",),
    ("sluice.settings",),
    SETTINGS_OF_PIPELINES,
    ("sluice.base_settings",),
    ("sluice.errors",),
)
"""Packages and modules from the top down: an import goes down, or stays within one of them."""


def layer(module: str) -> tuple[int, str]:
    """Index of the layer of a module in `LAYERS`, and the package there that it belongs to."""
    if module in SETTINGS_OF_PIPELINES:
        return LAYERS.index(SETTINGS_OF_PIPELINES), module
    for index, names in enumerate(LAYERS):
        for name in names:
            if module == name or module.startswith(f"{name}."):
                return index, name
    raise AssertionError(f"{module} is in no layer: add it to LAYERS")


@cache
def imports() -> dict[str, set[str]]:
    """Module -> the modules of this project that it imports, also within functions."""
    known = set(MODULES)
    found: dict[str, set[str]] = {}
    for file, module in zip(FILES, MODULES, strict=True):
        found[module] = set()
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                full = {f"{node.module}.{alias.name}" for alias in node.names}
                found[module] |= {name if name in known else node.module for name in full}
            elif isinstance(node, ast.Import):
                found[module] |= {alias.name for alias in node.names}
        found[module] = {name for name in found[module] if name in known and name != "sluice"}
    return found


def test_imports_run_downwards_only() -> None:
    upwards = [
        f"{module} imports {imported}"
        for module, all_imported in imports().items()
        if module != "sluice"
        for imported in sorted(all_imported)
        if layer(imported)[1] != layer(module)[1] and layer(imported)[0] <= layer(module)[0]
    ]
    assert upwards == []


def test_no_pipeline_imports_another() -> None:
    crossing = [
        f"{module} imports {imported}"
        for module, all_imported in imports().items()
        for imported in sorted(all_imported)
        if module.startswith("sluice.pipelines.") and imported.startswith("sluice.pipelines.")
        if module.split(".")[2] != imported.split(".")[2]
    ]
    assert crossing == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Also not one that only a function's import closes."""
    graph = {module: all_imported - {module} for module, all_imported in imports().items()}
    while ends := [module for module, all_imported in graph.items() if not all_imported & graph.keys()]:
        for module in ends:
            del graph[module]
    assert sorted(graph) == []


def test_no_module_of_the_product_names_a_development_tool() -> None:
    named = [module for file, module in zip(FILES, MODULES, strict=True) if "sluice_dev" in file.read_text()]
    assert [module for module in named if not module.startswith("sluice_dev")] == ["sluice.cli"]


@pytest.mark.parametrize("file", FILES, ids=MODULES)
def test_no_module_but_settings_reads_a_setting_from_the_environment(file: Path) -> None:
    read = [
        node.lineno
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call | ast.Subscript)
        and not isinstance(getattr(node, "ctx", None), ast.Store)
        and re.match(r"os\.(getenv\(|environ\[|environ\.get\()['\"]SLUICE_", ast.unparse(node))
    ]
    assert read == []


@pytest.mark.parametrize("file", FILES, ids=MODULES)
def test_a_folder_of_temporary_files_is_one_that_outlives_no_kill(file: Path) -> None:
    """Only `scratch_folder` is removed when its process was killed."""
    if file != PACKAGE / "core" / "scratch.py":
        assert not re.search(r"TemporaryDirectory|mkdtemp", file.read_text())


def test_no_error_of_aws_is_caught_by_a_class_of_one_session() -> None:
    """`except client.exceptions.X` misses the same error from a client of another session."""
    root = INCLUDE.parent
    files = [*FILES, *(root / "dags").rglob("*.py"), *(root / "plugins").rglob("*.py")]
    caught = [
        f"{file.relative_to(root)}:{handler.lineno}"
        for file in files
        for handler in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(handler, ast.ExceptHandler) and handler.type
        for each in ast.walk(handler.type)
        if isinstance(each, ast.Attribute)
        and each.attr == "exceptions"
        and ast.unparse(each) not in ("botocore.exceptions", "airflow.exceptions")
    ]
    assert not caught


def test_pipelines_take_and_delete_messages_through_the_work_queue_alone() -> None:
    """It stages the receipts with what the messages led to, so that no run deletes those of another batch."""
    calls = re.compile(r"\bsqs\.(drain|delete|hold_back)\(|\b(receive_message|delete_message)")
    files = [file for file in FILES if file.is_relative_to(PACKAGE / "pipelines")]
    assert files
    assert [file for file in files if calls.search(file.read_text(encoding="utf-8"))] == []


def test_names_of_tests_have_at_most_70_characters() -> None:
    """A name that long is a sentence; a longer one hides what a user would lose. Templates of new pipelines too."""
    root = INCLUDE.parent
    files = [*(root / "tests").rglob("test_*.py"), *(INCLUDE / "sluice_dev" / "scaffold").rglob("test_*.py.template")]
    assert files
    names = re.compile(r"^ *(?:async )?def (test_\w+)\(", re.MULTILINE)
    too_long = [
        f"{file.relative_to(root)}: {name}"
        for file in files
        for name in names.findall(file.read_text(encoding="utf-8"))
        if len(name) > 70
    ]
    assert not too_long


INSTEAD_OF = {
    "whoever": "name the role: user, caller, reader, process",
    "nobody": "no other run, no user; or say what does not happen",
    "told": "sent, logged, reported, notified",
    "at the most": "at most, maximum",
    "as of now": "current, consistent read",
    "what came of": "result, outcome",
    "what became of": "result, outcome",
    "mended": "fixed, corrected, repaired",
    "hears of": "is notified of, receives",
}
"""Turns of speech that the texts of this project avoid -> the field's words for what they said."""


def test_texts_use_the_terms_of_the_field() -> None:
    """A search finds the field's words, and a reader needs no story to understand a sentence (docs/glossary.md)."""
    root = INCLUDE.parent
    folders = [root / name for name in ("include", "plugins", "dags", "docs", "infra", "benchmarks")]
    kinds = {".py", ".md", ".sql", ".yaml", ".js", ".template"}
    files = [file for folder in folders for file in folder.rglob("*") if file.suffix in kinds]
    files += [root / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    avoided = re.compile(rf"\b({'|'.join(INSTEAD_OF)})\b", re.IGNORECASE)
    found = [
        f"{file.relative_to(root)}:{number}: {match[0]!r}; instead: {INSTEAD_OF[match[0].lower()]}"
        for file in files
        if "vendor" not in file.parts and "decisions" not in file.parts
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        for match in avoided.finditer(line)
    ]
    assert not found
