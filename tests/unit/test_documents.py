"""What one step saves, the next one loads as it was."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from sluice.aws import s3
from sluice.core import documents
from sluice.core.run import Run
from sluice.lake import StagingExpired


class Kind(StrEnum):
    GOOD = "good"
    BAD = "bad"


class Key(NamedTuple):
    name: str
    number: int


@dataclass(frozen=True)
class Part:
    text: str
    at: datetime
    share: float | None
    kind: Kind


@dataclass(frozen=True)
class Whole:
    keys: list[Key]
    parts: dict[str, Part]
    first: Part | None = None


PARTS = st.builds(
    Part,
    st.text(st.characters(), max_size=5),
    st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30))])),
    st.none() | st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(Kind),
)
WHOLES = st.builds(
    Whole,
    st.lists(st.builds(Key, st.text(max_size=3), st.integers(-(2**70), 2**70)), max_size=3),
    st.dictionaries(st.text(max_size=3), PARTS, max_size=3),
    st.none() | PARTS,
)
RUN = Run("dockerhub", "run", "lake")


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """A bucket in memory, by key."""
    objects: dict[str, bytes] = {}

    def write(bucket: str, key: str, body: bytes) -> str:
        objects[key] = body
        return f"s3://{bucket}/{key}"

    monkeypatch.setattr(s3, "write_object", write)
    monkeypatch.setattr(s3, "read_object", lambda _, key: s3.StoredObject(objects[key], datetime.now(UTC)))
    return objects


@examples(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(WHOLES)
def test_a_document_comes_back_as_it_was_and_has_one_digest(stored: dict[str, bytes], whole: Whole) -> None:
    RUN.save("whole.json", whole)
    loaded = RUN.load("whole.json", Whole)
    assert loaded == whole
    assert documents.digest(loaded) == documents.digest(json.loads(stored["staging/dockerhub/run/whole.json"]))


def test_a_record_with_half_of_a_surrogate_pair_is_kept(stored: dict[str, bytes]) -> None:
    part = Part("half \ud800, ü", datetime(2024, 4, 7, tzinfo=UTC), None, Kind.BAD)
    RUN.save("parts.json", [part])
    assert RUN.load("parts.json", list[Part]) == [part]
    assert "ü".encode() in stored["staging/dockerhub/run/parts.json"], "a person can read it"


def test_another_content_has_another_digest() -> None:
    part = Part("a", datetime(2024, 4, 7, tzinfo=UTC), 0.5, Kind.GOOD)
    assert documents.digest([part]) != documents.digest([replace(part, share=0.25)])
    assert documents.digest({"a": 1, "b": 2}) == documents.digest({"b": 2, "a": 1})


@pytest.mark.parametrize("body", [{"keys": []}, {"keys": [["a"]], "parts": {}}, [], {"keys": None, "parts": {}}])
def test_what_an_older_version_staged_is_named(stored: dict[str, bytes], body: Any) -> None:
    stored["staging/dockerhub/run/whole.json"] = json.dumps(body).encode()
    with pytest.raises(StagingExpired, match=r"run/whole\.json was saved by another version"):
        RUN.load("whole.json", Whole)
