"""Rules of every module: the logic runs without Airflow, and nobody pays for a heavy import that is not used."""

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

PACKAGE = Path(sluice.__file__).parent
FILES = sorted(set(PACKAGE.rglob("*.py")) - {PACKAGE / "__main__.py"})
MODULES = [
    ".".join(("sluice", *file.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__") for file in FILES
]
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
    environment = {"PATH": os.environ.get("PATH", ""), "PYTHONPATH": str(PACKAGE.parent)}
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


@pytest.mark.parametrize("file", FILES, ids=MODULES)
def test_only_the_command_line_and_deploy_know_of_the_embedded_aws(file: Path) -> None:
    inside = file.is_relative_to(PACKAGE / "embedded")
    if inside or file in (PACKAGE / "cli.py", PACKAGE / "deploy.py"):
        return
    assert "sluice.embedded" not in file.read_text()


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
    if file != PACKAGE / "scratch.py":
        assert not re.search(r"TemporaryDirectory|mkdtemp", file.read_text())


def test_no_error_of_aws_is_caught_by_a_class_of_one_session() -> None:
    """`except client.exceptions.X` misses the same error from a client of another session."""
    root = PACKAGE.parent.parent
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
