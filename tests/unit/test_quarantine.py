from __future__ import annotations

import pytest

from sluice.core.quarantine import RejectedRecord, Rejection
from sluice.core.run import Run
from sluice.pipelines.dockerhub.records import Reason


def test_a_rejection_says_where_what_and_why_in_one_line() -> None:
    rejection = Rejection("s3://lake/raw/a", "bad_key", "{}", "'raw/a' is not of the form")
    assert str(rejection) == "s3://lake/raw/a: 'raw/a' is not of the form (quarantined as bad_key)"


def test_a_rejected_record_keeps_its_reason_code_as_plain_text() -> None:
    rejected = RejectedRecord(Reason.BAD_KEY, "no key")
    assert (rejected.reason, type(rejected.reason)) == ("bad_key", str)
    assert str(rejected) == "no key (quarantined as bad_key)"


def test_nothing_rejected_writes_nothing() -> None:
    # There is no server: a request would fail.
    assert Run("dockerhub", "run", "lake").quarantine("fetch", []) is None


@pytest.mark.parametrize(
    "said",
    [
        str(RejectedRecord("bad_key", "'half \ud800' is no key")),
        RejectedRecord("bad_key", "'half \ud800' is no key").detail,
        str(Rejection("s3://lake/half \ud800", "bad_key", "{}", "'half \ud800' is no key")),
    ],
    ids=["error", "detail", "rejection"],
)
def test_a_rejection_of_any_record_can_be_logged(said: str) -> None:
    """A log is UTF-8, which cannot spell half of a surrogate pair; JSON can."""
    assert "half \\ud800" in said.encode().decode()
