"""Clients: one for each service and process, safe between threads and after a fork; error codes in one spelling."""

from __future__ import annotations

import contextlib
import os
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import botocore.session
import pytest
from botocore.credentials import Credentials
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    EndpointConnectionError,
    NoCredentialsError,
    ProfileNotFound,
    UnauthorizedSSOTokenError,
)

from sluice.aws import sessions
from sluice.errors import TerminalError
from sluice.settings import Settings, load_settings


@pytest.fixture
def made_sessions(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The boto3 sessions made so far."""
    made: list[Any] = []
    session = boto3.session.Session

    def make(**arguments: Any) -> Any:
        made.append(session(**arguments))
        return made[-1]

    monkeypatch.setattr(boto3.session, "Session", make)
    return made


def test_threads_that_start_cold_share_one_client_and_one_session(made_sessions: list[Any]) -> None:
    services = ["sqs", "dynamodb"] * 8
    together = threading.Barrier(len(services))

    def ask(service: Any) -> tuple[str, int]:
        together.wait()
        return service, id(sessions.client(service))

    threads = [threading.Thread(target=lambda each=each: asked.append(ask(each))) for each in services]
    asked: list[tuple[str, int]] = []
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(asked) == len(services)
    assert len(set(asked)) == 2
    assert len(made_sessions) == 1


def test_other_settings_and_a_hasty_caller_get_clients_of_their_own() -> None:
    settings = load_settings()
    other = settings.model_copy(update={"aws_account_id": "999999999999"})
    clients = [sessions.client("sns"), sessions.client_of("sns", other), sessions.hasty_client("sns")]
    assert len({id(each) for each in clients}) == 3
    assert sessions.client_of("sns", settings) is clients[0]


def in_child(check: Callable[[], bool]) -> bool:
    """What a function says in a forked process."""
    with warnings.catch_warnings():
        # Python warns of forks beside threads; Airflow's executor forks all the same.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if not child:
        os._exit(0 if check() else 1)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) == 0


def test_a_forked_process_uses_no_connection_of_its_parent() -> None:
    before = sessions.client("sqs")
    with contextlib.suppress(BotoCoreError):
        # Nothing listens there: what counts is that a request was sent.
        sessions.client_of("sqs", load_settings(), single_attempt=True).list_queues()
    assert in_child(lambda: sessions.client("sqs") is not before)
    assert sessions.client("sqs") is before


def test_a_task_gets_the_clients_that_were_made_before_its_fork() -> None:
    sessions.client_of.make_before_fork(load_settings())
    made = dict(sessions.client_of._made)
    assert len(made) == 10
    assert in_child(lambda: sessions.client_of._made == made and sessions.client("s3") in made.values())


def test_a_task_reads_settings_that_changed_after_its_parent_began(monkeypatch: pytest.MonkeyPatch) -> None:
    sessions.client_of.make_before_fork(load_settings())
    before = sessions.client("s3")
    monkeypatch.setenv("SLUICE_AWS_ACCOUNT_ID", "777777777777")
    assert in_child(lambda: load_settings().aws_account_id == "777777777777" and sessions.client("s3") is not before)


def test_a_task_reads_settings_that_were_edited_after_its_parent_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / ".env"
    file.write_text("SLUICE_DOCKERHUB_MAX_MESSAGES=11\n")
    monkeypatch.setitem(Settings.model_config, "env_file", file)
    load_settings.cache_clear()
    before = load_settings()
    assert in_child(lambda: load_settings() is before)
    file.write_text("SLUICE_DOCKERHUB_MAX_MESSAGES=1234\n")
    assert in_child(lambda: load_settings().dockerhub_max_messages == 1234)
    load_settings.cache_clear()


@pytest.mark.parametrize(
    ("method", "is_kept"),
    [
        ("iam-role", True),
        ("container-role", True),
        ("shared-credentials-file", False),
        ("assume-role", False),
        (None, False),
    ],
)
def test_only_credentials_of_the_machine_are_kept_for_tasks(
    method: str | None, is_kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLUICE_TARGET", "aws")
    load_settings.cache_clear()
    sessions.client_of.cache_clear()
    credentials = Credentials("key", "secret", method=method) if method else None
    monkeypatch.setattr(botocore.session.Session, "get_credentials", lambda _: credentials)
    sessions.client_of.make_before_fork(load_settings())
    assert bool(sessions.client_of._made) is is_kept


def test_a_fork_while_a_thread_makes_a_client_does_not_block_the_child() -> None:
    with sessions.client_of._lock, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
        if not child:
            os._exit(0 if sessions.client("sqs") else 1)
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
    assert sessions.error_code(ClientError({"Error": {"Code": code, "Message": ""}}, "Operation")) == expected


@pytest.mark.parametrize(
    "error", [ValueError("no"), EndpointConnectionError(endpoint_url="http://a"), ClientError({}, "")]
)
def test_an_error_that_no_service_sent_has_no_code(error: Exception) -> None:
    assert sessions.error_code(error) == ""


def refused(code: str, operation: str = "Operation") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "no"}}, operation)


@pytest.mark.parametrize(
    "error",
    [
        *map(
            refused,
            ["ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId", "UnrecognizedClientException"],
        ),
        *map(refused, ["InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidSignatureException"]),
        ProfileNotFound(profile="none"),
        UnauthorizedSSOTokenError(),
    ],
    ids=str,
)
def test_credentials_that_aws_refuses_are_terminal_and_say_how_to_log_in(error: Exception) -> None:
    terminal = sessions.as_terminal(error)
    assert str(terminal) == f"AWS does not accept the credentials: {str(error).rstrip('.')}. {sessions.LOG_IN}"


def test_a_process_without_credentials_fails_terminally(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for file in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(file, os.devnull)
    sqs = boto3.session.Session(botocore_session=botocore.session.Session()).client("sqs", region_name="eu-central-1")
    with pytest.raises(NoCredentialsError) as raised:
        sqs.list_queues()
    assert isinstance(sessions.as_terminal(raised.value), TerminalError)


@pytest.mark.parametrize("code", ["AccessDenied", "AccessDeniedException", "KMS.AccessDeniedException", "403"])
def test_a_permission_that_is_denied_is_terminal_and_names_the_request(code: str) -> None:
    assert str(sessions.as_terminal(refused(code, "GetItem"))) == (
        f"AWS denies access: An error occurred ({code}) when calling the GetItem operation: no."
        " Give this permission to the user or role that sluice runs as, or use another one."
    )


def test_a_missing_crawler_is_terminal_and_a_missing_partition_is_not() -> None:
    said = str(sessions.as_terminal(refused("EntityNotFoundException", "StartCrawler")))
    assert said.startswith("Glue crawler does not exist (")
    assert said.endswith("): run `sluice deploy`")
    assert sessions.as_terminal(refused("EntityNotFoundException", "GetPartition")) is None


@pytest.mark.parametrize(
    "error",
    [
        *map(refused, ["ThrottlingException", "InternalError", "RequestTimeTooSkewed", "CrawlerRunningException"]),
        EndpointConnectionError(endpoint_url="http://a"),
        CredentialRetrievalError(provider="metadata", error_msg="no answer"),
        ConnectionError(),
        ValueError(),
    ],
    ids=repr,
)
def test_what_another_try_may_cure_is_not_terminal(error: Exception) -> None:
    assert sessions.as_terminal(error) is None
