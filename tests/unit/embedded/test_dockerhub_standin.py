from __future__ import annotations

import json
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest

from sluice.pipelines.dockerhub.records import Repository, parse_answer, parse_stats, raw_key
from sluice_dev.dockerhub import HISTORY_STEPS, KNOWN, SHARED_FAULTS, DockerHubStandIn, history_of

DEMO_TIME = datetime(2026, 11, 1, tzinfo=UTC)


def get(hub: DockerHubStandIn, repository: str) -> bytes:
    with urllib.request.urlopen(f"{hub.url}/v2/repositories/{repository}/", timeout=20) as answer:
        body: bytes = answer.read()
    return body


def status_of(hub: DockerHubStandIn, path: str) -> int:
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{hub.url}{path}", timeout=20)
    return refused.value.code


@pytest.mark.parametrize("repository", [*KNOWN, "team/image-1", "team/image-2"])
def test_a_history_is_of_good_answers_that_grow_over_several_months(repository: str) -> None:
    history = [
        parse_stats(answer, now=DEMO_TIME, expected=Repository.parse(repository)) for answer in history_of(repository)
    ]
    assert len(history) == HISTORY_STEPS
    assert history == sorted(history, key=lambda stats: (stats.last_updated_at, stats.pull_count, stats.star_count))
    assert all(one.pull_count < next_one.pull_count for one, next_one in pairwise(history))
    assert len({stats.last_updated[:7] for stats in history}) >= 3, "months, or there is nothing to aggregate by"


def test_some_pulls_fall_between_two_pushes_and_share_their_raw_key() -> None:
    keys = Counter(
        raw_key(parse_stats(answer, now=DEMO_TIME)) for repository in KNOWN for answer in history_of(repository)
    )
    assert max(keys.values()) > 1


def test_a_seed_and_a_name_always_give_the_same_history() -> None:
    assert history_of("team/image", seed=1) == history_of("team/image", seed=1)
    assert history_of("team/image", seed=1) != history_of("team/image", seed=2)


def test_each_good_answer_moves_a_repository_one_step_on_until_its_last() -> None:
    with DockerHubStandIn() as hub:
        answers = [json.loads(get(hub, "library/redis")) for _ in range(HISTORY_STEPS + 2)]
        other = json.loads(get(hub, "library/postgres"))
    history = history_of("library/redis")
    assert answers == [*history, history[-1], history[-1]]
    assert other == history_of("library/postgres")[0]
    assert hub.requests == {"library/redis": HISTORY_STEPS + 2, "library/postgres": 1}


def test_many_at_once_each_get_a_step_of_their_own() -> None:
    with DockerHubStandIn() as hub, ThreadPoolExecutor(8) as pool:
        bodies = list(pool.map(lambda _: get(hub, "library/redis"), range(HISTORY_STEPS)))
    assert sorted(json.loads(body)["pull_count"] for body in bodies) == [
        answer["pull_count"] for answer in history_of("library/redis")
    ]


def test_missing_and_private_repositories_and_other_paths_are_refused() -> None:
    with DockerHubStandIn() as hub:
        assert status_of(hub, "/v2/repositories/missing/image/") == 404
        assert status_of(hub, "/v2/repositories/private/image/") == 401
        assert status_of(hub, "/v2/repositories/library/redis/tags/") == 404
        assert status_of(hub, "/") == 404


def faults_of(seed: int) -> list[Any]:
    hub = DockerHubStandIn(error_share=0.05, seed=seed)
    faults = [hub.next_fault(f"team/image-{number}") for number in range(2000)]
    hub._server.server_close()
    return faults


def test_the_share_of_faults_is_kept_mixed_and_the_same_for_the_same_seed() -> None:
    faults = faults_of(seed=7)
    drawn = Counter(fault for fault in faults if fault)
    assert 60 <= drawn.total() <= 140  # 100 expected, four standard deviations
    assert set(drawn) == set(SHARED_FAULTS)
    assert faults == faults_of(seed=7) != faults_of(seed=8)


def test_a_repository_in_the_faulty_namespace_without_a_fault_answers_well() -> None:
    with DockerHubStandIn() as hub:
        assert parse_answer(get(hub, "faulty/fine"), now=DEMO_TIME, expected=Repository("faulty", "fine"))


def test_stopping_ends_slow_answers_and_frees_the_port() -> None:
    with DockerHubStandIn(slow_seconds=600) as hub, ThreadPoolExecutor(1) as pool:
        slow = pool.submit(get, hub, "faulty/slow")
        while not hub.requests["faulty/slow"]:
            assert not slow.done()
        hub.closing.set()
        assert json.loads(slow.result(timeout=20))["name"] == "slow"
    port = int(hub.url.rpartition(":")[2])
    with DockerHubStandIn(port) as again:
        assert again.url == hub.url


def test_it_runs_as_a_process_that_says_where_it_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "sluice", "stand-in", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == f"Docker Hub stand-in on http://127.0.0.1:{port}\n"
            with urllib.request.urlopen(
                f"http://127.0.0.1:{port}/v2/repositories/library/redis/", timeout=20
            ) as answer:
                assert answer.status == 200
        finally:
            process.terminate()
