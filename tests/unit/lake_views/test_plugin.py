from __future__ import annotations

import os
import re
import subprocess
import sys

from sluice.settings import PROJECT_ROOT

STATIC = PROJECT_ROOT / "plugins" / "sluice_airflow" / "lake" / "static"


def test_a_task_that_loads_the_plugin_pays_for_no_web_framework() -> None:
    """Airflow imports plugins in every task."""
    path = os.pathsep.join(str(PROJECT_ROOT / name) for name in ("include", "plugins"))
    code = "import sys, sluice_airflow.lake; print({'fastapi', 'starlette', 'boto3', 'pydantic'} & sys.modules.keys())"
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": path}, capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"


def test_the_pages_load_nothing_from_another_machine() -> None:
    pages = [file for file in STATIC.rglob("*.js") if "vendor" not in file.parts]
    assert len(pages) > 8
    for file in pages:
        found = re.findall(
            r"""(?:^import .*|^\} )from "([^"]+)";|import\("([^"]+)"\)""", file.read_text(), re.MULTILINE
        )
        imports = [one or other for one, other in found]
        assert all(each.startswith(("./", "../")) for each in imports), file
        assert "dangerouslySetInnerHTML" not in file.read_text(), "texts are escaped by React"
        for target in imports:
            assert (file.parent / target).is_file(), f"{file.name} imports {target}"
