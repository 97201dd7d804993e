from __future__ import annotations

from typing import Any

import pytest

from sluice.aws import sns


class Topic:
    """Refuses messages so many times each."""

    def __init__(self, **refusals: int) -> None:
        self.refusals = refusals
        self.taken: list[str] = []

    def publish_batch(self, PublishBatchRequestEntries: list[dict[str, str]], **_: str) -> dict[str, Any]:
        assert len({each["Id"] for each in PublishBatchRequestEntries}) == len(PublishBatchRequestEntries) <= 10
        failed = []
        for each in PublishBatchRequestEntries:
            if self.refusals.get(each["Message"], 0):
                self.refusals[each["Message"]] -= 1
                failed.append({"Id": each["Id"], "Code": "Throttled", "Message": "slow down", "SenderFault": False})
            else:
                self.taken.append(each["Message"])
        return {"Successful": [], "Failed": failed}


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    found: list[float] = []
    monkeypatch.setattr("sluice.aws.retries.time.sleep", found.append)
    return found


def test_messages_that_are_refused_are_sent_again_and_no_others(
    monkeypatch: pytest.MonkeyPatch, pauses: list[float]
) -> None:
    topic = Topic(b=1, d=3)
    monkeypatch.setattr(sns, "client", lambda _: topic)
    sns.publish_batch("arn", ["a", "b", "c", "d"])
    assert topic.taken == ["a", "c", "b", "d"]
    assert pauses[2] > pauses[0] > 0


def test_a_topic_that_refuses_for_long_is_an_error_that_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    topic = Topic(b=99)
    monkeypatch.setattr(sns, "client", lambda _: topic)
    with pytest.raises(sns.PublishFailed, match=r"arn refused 1 of 2 messages 8 times \(Throttled: slow down\)"):
        sns.publish_batch("arn", ["a", "b"])
