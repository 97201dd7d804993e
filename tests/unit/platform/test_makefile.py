from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

from sluice.settings import PROJECT_ROOT


def test_every_recipe_works_in_a_checkout_below_a_folder_with_a_space(tmp_path: Path) -> None:
    checkout = tmp_path / "a b" / "sluice"
    checkout.mkdir(parents=True)
    shutil.copy(PROJECT_ROOT / "Makefile", checkout)
    for name in ("pyproject.toml", "uv.lock"):
        (checkout / name).touch()
    targets = re.findall(r"^([a-z]+):.*## ", (checkout / "Makefile").read_text(), re.MULTILINE)
    assert {"demo", "test", "package"} <= set(targets)
    environment = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL")}
    recipes = subprocess.run(
        ["make", "--dry-run", *targets], cwd=checkout, env=environment, check=True, capture_output=True, text=True
    ).stdout
    words = [word for word in shlex.split(recipes) if word.startswith(str(tmp_path))]
    assert words
    assert [word for word in words if not word.startswith(str(checkout))] == []
