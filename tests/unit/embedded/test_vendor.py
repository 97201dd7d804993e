from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from sluice_dev.vendor import LOCKS, changed_files


@pytest.mark.parametrize("lock", LOCKS, ids=["page", "tests"])
def test_every_library_is_what_its_lock_file_says_with_its_licence(lock: Path) -> None:
    assert changed_files(lock) == []
    for package in json.loads(lock.read_text()):
        assert package["integrity"].startswith("sha512-")
        assert any("LICENSE" in name for name in package["files"])


def test_a_library_that_somebody_changed_is_found(tmp_path: Path) -> None:
    shutil.copytree(LOCKS[0].parent, tmp_path, dirs_exist_ok=True)
    (tmp_path / "htm.js").write_text("changed")
    (tmp_path / "unknown.js").write_text("")
    assert changed_files(tmp_path / "vendor.json") == ["htm.js", "unknown.js"]
