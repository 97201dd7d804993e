from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sluice.core.scratch import scratch_folder

WORKER = """
import sys
from sluice.core.scratch import scratch_folder
with scratch_folder("worker") as folder:
    (folder / "spilled").write_bytes(b"x" * 1000)
    print(folder, flush=True)
    sys.stdin.readline()
"""


class Worker:
    """A process that uses a scratch folder until it gets a signal."""

    def __init__(self, temporary: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER],
            env={"TMPDIR": str(temporary), "PYTHONPATH": ":".join(sys.path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout
        self.folder = Path(self.process.stdout.readline().strip())
        assert (self.folder / "spilled").exists()

    def end(self) -> None:
        self.process.communicate("\n", timeout=30)

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=30)


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_a_folder_is_gone_when_the_work_ends_well_or_badly(temporary: Path) -> None:
    with scratch_folder("events") as folder:
        (folder / "part").mkdir()
        (folder / "part" / "file").write_text("x")
        assert "events" in folder.name
    assert list(temporary.iterdir()) == []
    with pytest.raises(ValueError, match=r"^failed$"), scratch_folder("events"):
        raise ValueError("failed")
    assert list(temporary.iterdir()) == []


def test_two_at_once_have_folders_of_their_own() -> None:
    with scratch_folder("events") as one, scratch_folder("events") as other:
        assert one != other
        assert one.is_dir()
        assert other.is_dir()


def test_folders_of_a_killed_worker_are_removed_and_those_in_use_are_not(temporary: Path) -> None:
    living, killed = Worker(temporary), Worker(temporary)
    try:
        killed.kill()
        assert killed.folder.exists(), "SIGKILL allows no cleanup"
        with scratch_folder("next") as folder:
            assert set(temporary.iterdir()) == {living.folder, folder}
            assert (living.folder / "spilled").exists()
        living.end()
        assert list(temporary.iterdir()) == []
    finally:
        living.process.kill()


def test_folders_of_others_are_left_alone(temporary: Path) -> None:
    elsewhere = temporary / "elsewhere"
    for folder in (elsewhere, temporary / "sluice", temporary / "sluice-checkout"):
        folder.mkdir()
        (folder / "file").write_text("x")
    link, file = temporary / "sluice-scratch-link", temporary / "sluice-scratch-file"
    link.symlink_to(elsewhere)
    file.write_text("x")
    with scratch_folder("next"):
        pass
    assert {path.name for path in temporary.iterdir()} == {
        "elsewhere",
        "sluice",
        "sluice-checkout",
        link.name,
        file.name,
    }
    assert (elsewhere / "file").exists()
