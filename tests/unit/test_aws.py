"""Clients: one for each service and process, safe between threads and after a fork; error codes in one spelling."""

from __future__ import annotations

import os
import threading
import warnings
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from sluice import aws
from sluice.settings import load_settings


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The boto3 sessions made so far."""
    made: list[Any] = []
    session = boto3.session.Session

    def make(**arguments: Any) -> Any:
        made.append(session(**arguments))
        return made[-1]

    monkeypatch.setattr(boto3.session, "Session", make)
    return made


def test_threads_that_start_cold_share_one_client_and_one_session(sessions: list[Any]) -> None:
    services = ["sqs", "dynamodb"] * 8
    together = threading.Barrier(len(services))

    def ask(service: Any) -> tuple[str, int]:
        together.wait()
        return service, id(aws.client(service))

    threads = [threading.Thread(target=lambda each=each: asked.append(ask(each))) for each in services]
    asked: list[tuple[str, int]] = []
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(asked) == len(services)
    assert len(set(asked)) == 2
    assert len(sessions) == 1


def test_other_settings_and_a_hasty_caller_get_clients_of_their_own() -> None:
    settings = load_settings()
    other = settings.model_copy(update={"aws_account_id": "999999999999"})
    clients = [aws.client("sns"), aws.client_of("sns", other), aws.hasty_client("sns")]
    assert len({id(each) for each in clients}) == 3
    assert aws.client_of("sns", settings) is clients[0]


def test_a_forked_process_uses_no_connection_of_its_parent() -> None:
    before = aws.client("sqs")
    with warnings.catch_warnings():
        # Python warns of forks beside threads; Airflow's executor forks all the same.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if not child:
        os._exit(0 if aws.client("sqs") is not before else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert aws.client("sqs") is before


def test_a_fork_while_a_thread_makes_a_client_does_not_block_the_child() -> None:
    with aws.client_of._lock, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
        if not child:
            os._exit(0 if aws.client("sqs") else 1)
        _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("ResourceNotFoundException", "ResourceNotFoundException"),
        ("AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"),
        ("QueueDoesNotExist", "QueueDoesNotExist"),
        ("NotFound", "NotFound"),
        ("NotFoundException", "NotFound"),
    ],
)
def test_an_error_has_one_code_however_the_service_spells_it(code: str, expected: str) -> None:
    assert aws.error_code(ClientError({"Error": {"Code": code, "Message": ""}}, "Operation")) == expected


@pytest.mark.parametrize(
    "error", [ValueError("no"), EndpointConnectionError(endpoint_url="http://a"), ClientError({}, "")]
)
def test_an_error_that_no_service_sent_has_no_code(error: Exception) -> None:
    assert aws.error_code(error) == ""
