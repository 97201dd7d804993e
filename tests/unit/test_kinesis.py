"""Reading and writing a stream as AWS behaves, where the emulator does not: expiry, trimming, resharding, refusals."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.stub import ANY, Stubber
from hypothesis import given
from hypothesis import strategies as st

from sluice.aws import kinesis, sessions
from sluice.aws.kinesis import Budget, Entry, Page, Shard

ARRIVED = datetime(2024, 4, 7, 17, 42, tzinfo=UTC)


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stubber]:
    client = sessions.client("kinesis")
    with Stubber(client) as stubber:
        monkeypatch.setattr(kinesis, "client", lambda _: client)
        monkeypatch.setattr(time, "sleep", lambda _: None)
        yield stubber
        stubber.assert_no_pending_responses()


def asked_for_iterator(stub: Stubber, after: str | None, iterator: str) -> None:
    request: dict[str, Any] = {"StreamName": "s", "ShardId": "shard", "ShardIteratorType": "TRIM_HORIZON"}
    if after is not None:
        request |= {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": after}
    stub.add_response("get_shard_iterator", {"ShardIterator": iterator}, request)


def answered(stub: Stubber, iterator: str, numbers: list[int], following: str | None, behind: int = 0) -> None:
    answer: dict[str, Any] = {
        "Records": [
            {
                "SequenceNumber": str(number),
                "ApproximateArrivalTimestamp": ARRIVED,
                "Data": f"record {number}".encode(),
                "PartitionKey": "key",
            }
            for number in numbers
        ],
        "MillisBehindLatest": behind,
    }
    if following:
        answer["NextShardIterator"] = following
    stub.add_response("get_records", answer, {"ShardIterator": iterator, "Limit": ANY})


def expired(stub: Stubber, iterator: str) -> None:
    stub.add_client_error(
        "get_records", "ExpiredIteratorException", expected_params={"ShardIterator": iterator, "Limit": ANY}
    )


def numbers_of(pages: Iterator[Page]) -> list[int]:
    return [int(record.sequence_number) for page in pages for record in page.records]


def test_a_shard_is_read_from_behind_its_checkpoint_to_its_newest_record(stub: Stubber) -> None:
    asked_for_iterator(stub, "10", "a")
    answered(stub, "a", [11, 12], "b", behind=5)
    answered(stub, "b", [13], "c")
    assert numbers_of(kinesis.read_pages("s", "shard", after="10")) == [11, 12, 13]


def test_an_empty_answer_that_is_behind_is_not_the_end(stub: Stubber) -> None:
    asked_for_iterator(stub, None, "a")
    answered(stub, "a", [], "b", behind=86_400_000)
    answered(stub, "b", [1], "c")
    assert numbers_of(kinesis.read_pages("s", "shard", after=None)) == [1]


def test_an_expired_iterator_is_renewed_after_the_last_record_read(stub: Stubber) -> None:
    asked_for_iterator(stub, None, "a")
    answered(stub, "a", [1, 2], "b", behind=5)
    expired(stub, "b")
    asked_for_iterator(stub, "2", "c")
    answered(stub, "c", [3], "d")
    assert numbers_of(kinesis.read_pages("s", "shard", after=None)) == [1, 2, 3]


def test_iterators_that_expire_repeatedly_end_in_an_error_not_in_a_loop(stub: Stubber) -> None:
    asked_for_iterator(stub, "7", "a")
    for _ in range(kinesis.EXPIRED_IN_A_ROW - 1):
        expired(stub, "a")
        asked_for_iterator(stub, "7", "a")
    expired(stub, "a")
    with pytest.raises(kinesis.IteratorsExpire, match="shard: 5 iterators"):
        list(kinesis.read_pages("s", "shard", after="7"))


def test_a_shard_with_a_long_backlog_leaves_the_others_their_share() -> None:
    budget = Budget(10)
    budget.expect(3)
    assert [budget.take(100, is_first=True), budget.take(100)] == [4, 0]
    assert budget.take(2, is_first=True) == 2
    assert budget.take(100) == 1, "what another one has left over"
    assert budget.take(100, is_first=True) == 3
    budget.give_back(2)
    assert budget.take(100) == 2


def test_an_expired_iterator_does_not_use_up_the_budget(stub: Stubber) -> None:
    asked_for_iterator(stub, None, "a")
    expired(stub, "a")
    asked_for_iterator(stub, None, "b")
    answered(stub, "b", [1, 2], "c")
    budget = Budget(5)
    assert numbers_of(kinesis.read_pages("s", "shard", after=None, budget=budget)) == [1, 2]
    assert budget.take(100) == 3


def test_a_trimmed_checkpoint_starts_at_the_oldest_record_and_warns(
    stub: Stubber, caplog: pytest.LogCaptureFixture
) -> None:
    stub.add_client_error("get_shard_iterator", "InvalidArgumentException")
    asked_for_iterator(stub, None, "a")
    answered(stub, "a", [50], "b")
    assert numbers_of(kinesis.read_pages("s", "shard", after="10")) == [50]
    assert "RECORDS MAY BE LOST" in caplog.text


def test_a_closed_shard_is_read_to_its_end_and_says_so(stub: Stubber) -> None:
    asked_for_iterator(stub, None, "a")
    answered(stub, "a", [1], "b", behind=5)
    answered(stub, "b", [2], None)
    assert [page.closed for page in kinesis.read_pages("s", "shard", after=None)] == [False, True]


def test_reading_up_to_a_record_leaves_the_later_ones(stub: Stubber) -> None:
    asked_for_iterator(stub, None, "a")
    answered(stub, "a", [1, 2], "b", behind=5)
    answered(stub, "b", [9, 10, 11], "c", behind=5)
    assert numbers_of(kinesis.read_pages("s", "shard", after=None, until="10")) == [1, 2, 9, 10]


def test_parents_that_are_gone_hold_no_child_back(stub: Stubber) -> None:
    ranges = {
        "HashKeyRange": {"StartingHashKey": "0", "EndingHashKey": "1"},
        "SequenceNumberRange": {"StartingSequenceNumber": "1"},
    }
    shards = [
        {"ShardId": "child", "ParentShardId": "parent", "AdjacentParentShardId": "gone", **ranges},
        {"ShardId": "parent", "ParentShardId": "gone", **ranges},
    ]
    stub.add_response("list_shards", {"Shards": shards[:1], "NextToken": "more"}, {"StreamName": "s"})
    stub.add_response("list_shards", {"Shards": shards[1:]}, {"NextToken": "more"})
    assert kinesis.list_shards("s") == [Shard("child", ("parent",)), Shard("parent", ())]


@given(st.lists(st.integers(0, 400_000), max_size=40), st.integers(0, 1200))
def test_batches_keep_order_and_the_limits_of_put_records(large_bytes: list[int], small: int) -> None:
    entries = [Entry("key", bytes(size)) for size in large_bytes] + [Entry("key", b"x")] * small
    made = list(kinesis.batches(entries))
    assert [entry for batch in made for entry in batch] == entries
    for batch in made:
        assert 0 < len(batch) <= 500
        assert sum(entry.size_bytes for entry in batch) <= 5 * 1024 * 1024


def test_a_record_that_kinesis_does_not_take_is_named(stub: Stubber) -> None:
    with pytest.raises(kinesis.RecordTooLarge, match="'key' has 1048577 bytes"):
        list(kinesis.batches([Entry("key", bytes(1024 * 1024 - 2))]))


def put_answer(*codes: str | None) -> dict[str, Any]:
    records = [
        {"ErrorCode": code, "ErrorMessage": "slow down"} if code else {"SequenceNumber": "1", "ShardId": "shard"}
        for code in codes
    ]
    failed = sum(code is not None for code in codes)
    return {"Records": records} | ({"FailedRecordCount": failed} if failed else {})


def test_only_the_refused_entries_of_a_batch_are_sent_again(stub: Stubber) -> None:
    slow = "ProvisionedThroughputExceededException"
    batch = [Entry("a", b"1"), Entry("b", b"2"), Entry("c", b"3")]
    request = [{"PartitionKey": entry.partition_key, "Data": entry.data} for entry in batch]
    stub.add_response("put_records", put_answer(slow, None, slow), {"StreamName": "s", "Records": request})
    stub.add_response("put_records", put_answer(None, slow), {"StreamName": "s", "Records": [request[0], request[2]]})
    stub.add_response("put_records", put_answer(None), {"StreamName": "s", "Records": [request[2]]})
    assert kinesis.put_batch("s", batch) == 3


def test_entries_that_are_refused_for_ever_end_in_an_error(stub: Stubber) -> None:
    for _ in range(kinesis.PUT_ATTEMPTS):
        stub.add_response("put_records", put_answer("InternalFailure"))
    with pytest.raises(kinesis.PutFailed, match=r"refused 1 of 1 records 10 times \(InternalFailure: slow down\)"):
        kinesis.put_batch("s", [Entry("a", b"1")])
