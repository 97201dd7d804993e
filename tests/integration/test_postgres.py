"""The embedded PostgreSQL: started, used and stopped for real."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import sqlalchemy

from sluice.settings import Settings
from sluice_dev.stack import postgres


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Settings]:
    settings = Settings(_env_file=None, home=tmp_path / "home")
    yield settings
    postgres.stop(settings)


def ask(url: str) -> str:
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    with engine.connect() as connection:
        return str(connection.execute(sqlalchemy.text("SHOW data_directory")).scalar_one())


def processes(settings: Settings) -> list[psutil.Process]:
    folder = str(postgres.data_folder(settings))
    return [found for found in psutil.process_iter(["cmdline"]) if folder in (found.info["cmdline"] or [])]


def test_it_runs_until_it_is_stopped_also_with_connections(home: Settings) -> None:
    url = postgres.start(home)
    assert ask(url) == str(postgres.data_folder(home))
    assert postgres.start(home) == url, "it runs already"

    with sqlalchemy.create_engine(url).connect():
        assert postgres.stop(home)
    assert processes(home) == []
    assert not postgres.stop(home)


def test_it_stops_although_the_folders_above_it_became_private(home: Settings) -> None:
    """As root it runs as another user; what pytest, umask or a person did to a folder since must not keep it alive."""
    postgres.start(home)
    assert len(processes(home)) == 1

    home.home.chmod(0o700)

    assert postgres.stop(home)
    assert processes(home) == []


def test_a_pid_that_another_process_has_by_now_is_not_taken_for_it(home: Settings) -> None:
    """After a power cut the file still exists, and another process with its pid would be signalled."""
    postgres.start(home)
    postgres.stop(home)
    folder = postgres.data_folder(home)
    (folder / "postmaster.pid").write_text(f"{os.getpid()}\n{folder}\n0\n5432\n{folder}\n\n1 1\nready\n")

    assert not postgres.stop(home)
    assert ask(postgres.start(home)) == str(folder)


@pytest.mark.parametrize("name", ["some dir with space, and 'quotes'", "long" * 40], ids=["space", "long"])
def test_it_runs_below_a_path_that_is_no_socket_path(name: str, tmp_path: Path) -> None:
    settings = Settings(_env_file=None, home=tmp_path / name)
    try:
        assert ask(postgres.start(settings)) == str(postgres.data_folder(settings))
    finally:
        assert postgres.stop(settings)


def test_a_name_that_somebody_else_has_taken_is_named_with_the_way_out(tmp_path: Path) -> None:
    settings = Settings(_env_file=None, home=tmp_path / "with space")
    link = postgres._socket_folder(postgres.data_folder(settings))
    link.unlink()
    link.symlink_to(tmp_path)
    with pytest.raises(postgres.PostgresFailed, match="is in the way: remove it, or set SLUICE_HOME"):
        postgres.start(settings)
    link.unlink()
