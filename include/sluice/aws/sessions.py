"""Sessions and clients: the only module that handles endpoints and credentials.

A process has one session, and one client per service and settings; botocore's own retries (standard mode) absorb
throttling and 5xx. Errors of a service are recognised by `error_code`, never by `client.exceptions`: those classes
belong to one session, so an `except` clause of another session's client does not catch them.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, overload

import boto3
import botocore.loaders
import botocore.session
from botocore import exceptions as botocore_errors
from botocore.config import Config
from botocore.exceptions import ClientError

from sluice.aws.emulator import EMBEDDED_SECRET_KEY
from sluice.errors import TerminalError
from sluice.settings import Settings, load_settings

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_glue import GlueClient
    from mypy_boto3_kinesis import KinesisClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sns import SNSClient
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sts import STSClient

CLIENT_CONFIG = Config(
    retries={"mode": "standard", "max_attempts": 8},
    connect_timeout=5,
    read_timeout=60,
    max_pool_connections=32,
    user_agent_extra="sluice",
)
HASTY = Config(retries={"mode": "standard", "max_attempts": 2}, connect_timeout=1, read_timeout=3)
EMBEDDED_CLIENT_CONFIG = CLIENT_CONFIG.merge(
    # Checksums of uploads slow the emulator down, and its buckets have no host names of their own.
    Config(
        # botocore obeys HTTP_PROXY for 127.0.0.1 as well.
        proxies={},
        s3={"addressing_style": "path"},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
)


def connection_arguments(settings: Settings) -> dict[str, Any]:
    """Keyword arguments of a boto3 client: region, and on the emulator its endpoint and account."""
    arguments: dict[str, Any] = {"region_name": settings.aws_region}
    if settings.endpoint_url:
        arguments |= {
            "endpoint_url": settings.endpoint_url,
            "aws_access_key_id": settings.aws_account_id,
            "aws_secret_access_key": EMBEDDED_SECRET_KEY,
        }
    return arguments


@overload
def client(service: Literal["s3"]) -> S3Client: ...
@overload
def client(service: Literal["sqs"]) -> SQSClient: ...
@overload
def client(service: Literal["sns"]) -> SNSClient: ...
@overload
def client(service: Literal["dynamodb"]) -> DynamoDBClient: ...
@overload
def client(service: Literal["kinesis"]) -> KinesisClient: ...
@overload
def client(service: Literal["glue"]) -> GlueClient: ...
@overload
def client(service: Literal["cloudformation"]) -> CloudFormationClient: ...
@overload
def client(service: Literal["sts"]) -> STSClient: ...
@overload
def client(service: Literal["cloudwatch"]) -> Any: ...
def client(service: Any) -> Any:
    """The client of a service for the settings of this process."""
    return client_of(service, load_settings())


def hasty_client(service: Literal["cloudwatch", "dynamodb", "sns"]) -> Any:
    """A client that times out within seconds, for secondary work that must not delay a run."""
    return client_of(service, load_settings(), hasty=True)


_MODELS = botocore.loaders.create_loader()
"""Parsed service models, the most expensive part of a client; forked children use those of their parent."""


@contextmanager
def giving_up_soon() -> Iterator[None]:
    """Let all clients of this process time out within seconds, for commands that a person waits for."""
    client_of.is_hasty = True
    try:
        yield
    finally:
        client_of.is_hasty = False


MACHINE_CREDENTIALS = ("iam-role", "container-role", "assume-role-with-web-identity")
"""Names that botocore uses for credentials fetched from the machine or container."""


class _Clients:
    """Clients by service and settings, each created once, also under concurrent first use.

    boto3 clients may be shared between threads; making one from a shared session is not thread-safe, hence the lock.
    """

    _lock: threading.Lock
    _session: Any
    _made: dict[tuple[str, Settings, bool, bool], Any]
    _has_sent: bool

    def __init__(self) -> None:
        self.is_hasty = False
        self.cache_clear()

    def __call__(self, service: str, settings: Settings, hasty: bool = False, *, single_attempt: bool = False) -> Any:
        """The client of a service for given settings; with a single attempt, one without retries."""
        key = (service, settings, hasty or self.is_hasty, single_attempt)
        with self._lock:
            found = self._made.get(key)
            if found is None:
                found = self._made[key] = self._make(*key)
            return found

    def _make(self, service: str, settings: Settings, hasty: bool, single_attempt: bool) -> Any:
        # A session costs as much as several clients.
        if self._session is None:
            core = botocore.session.Session()
            core.register_component("data_loader", _MODELS)
            self._session = boto3.session.Session(botocore_session=core)
        config = EMBEDDED_CLIENT_CONFIG if settings.endpoint_url else CLIENT_CONFIG
        if hasty:
            config = config.merge(HASTY)
        if single_attempt:
            config = config.merge(Config(retries={"mode": "standard", "total_max_attempts": 1}))
        made = self._session.client(service, config=config, **connection_arguments(settings))
        made.meta.events.register("before-parameter-build", _keep_parameters)
        made.meta.events.register("before-send", self._note_sent)
        made.meta.events.register("after-call", partial(_raise_where_missing, settings))
        return made

    def make_before_fork(self, settings: Settings) -> None:
        """Create the clients that most tasks use, in a process that sends no requests itself and forks the tasks.

        This saves each child 0.15 s of CPU. On an account, only if the credentials come from the machine or container:
        others (a key, a profile, SSO) may change, and children would keep those that the parent read at its start. Then
        only the parsed models are shared.
        """
        for service in ("s3", "dynamodb", "sqs", "sns", "kinesis", "glue"):
            self(service, settings)
        self("glue", settings, single_attempt=True)
        for service in ("cloudwatch", "dynamodb", "sns"):
            self(service, settings, hasty=True)
        for made in self._made.values():
            # Scans the folders of all services.
            made.can_paginate(next(iter(made.meta.method_to_api_mapping)))
        if settings.endpoint_url:
            return
        credentials = self._session.get_credentials()
        if getattr(credentials, "method", None) not in MACHINE_CREDENTIALS:
            self.cache_clear()

    def after_fork(self) -> None:
        """Keep only clients that the parent created and did not use: a used client has open connections, which must not
        be shared."""
        if self._has_sent:
            self.cache_clear()
        self._lock = threading.Lock()

    def cache_clear(self) -> None:
        """Discard the session and its clients."""
        self._lock = threading.Lock()
        self._session = None
        self._made = {}
        self._has_sent = False

    def _note_sent(self, **_: Any) -> None:
        self._has_sent = True


client_of = _Clients()
os.register_at_fork(after_in_child=client_of.after_fork)


_SAME_CODES = {
    # SQS: the query protocol, which AWS and botocore still name first, and the JSON protocol.
    "AWS.SimpleQueueService.NonExistentQueue": "QueueDoesNotExist",
    "NonExistentQueue": "QueueDoesNotExist",
    # SNS: the code of its API, and the name of its exception.
    "NotFoundException": "NotFound",
}
"""Codes that AWS, botocore and the emulator use for one error -> the spelling that `error_code` returns."""


def error_code(error: BaseException) -> str:
    """The code of a service's error, such as `ResourceNotFoundException`; "" for any other error.

    Codes with several spellings are normalized: `QueueDoesNotExist` (SQS) and `NotFound` (SNS).
    """
    if not isinstance(error, ClientError):
        return ""
    code = str(error.response.get("Error", {}).get("Code", ""))
    return _SAME_CODES.get(code, code)


class ResourceMissing(ClientError, TerminalError):
    """A queue, topic, table, stream or bucket of a request does not exist; raised by every client of this module.

    Also a ClientError: code that expects the error catches it by its code as any other.
    """

    def __init__(self, error_response: Any, operation_name: str) -> None:
        super().__init__(error_response, operation_name)
        self.args = (error_response["Error"]["Message"],)


_RESOURCES: dict[tuple[str, str], tuple[str, tuple[str, ...]]] = {
    ("sqs", "QueueDoesNotExist"): ("SQS queue", ("QueueName", "QueueUrl")),
    ("sns", "NotFound"): ("SNS topic", ("TopicArn",)),
    ("dynamodb", "ResourceNotFoundException"): ("DynamoDB table", ("TableName", "RequestItems", "TransactItems")),
    ("kinesis", "ResourceNotFoundException"): ("Kinesis stream", ("StreamName",)),
    ("s3", "NoSuchBucket"): ("S3 bucket", ("Bucket",)),
}
"""(service, error code) -> what is missing, and the parameters of a request that name it."""


def _keep_parameters(params: Any, context: Any, **_: Any) -> None:
    context["sluice_parameters"] = params


def _raise_where_missing(settings: Settings, parsed: Any, model: Any, context: Any, **_: Any) -> None:
    """Raise ResourceMissing for a not-found response, with the command that creates the resource."""
    response: Any = parsed if isinstance(parsed, dict) and "Error" in parsed else {}
    code = error_code(ClientError(response, model.name))
    what, parameters = _RESOURCES.get((model.service_model.service_name, code), ("", ()))
    given = context.get("sluice_parameters") or {}
    name = next((_resource_name(given[each]) for each in parameters if each in given), "")
    # A missing shard has the same code as a missing stream.
    if not name or "ShardId" in given:
        return
    variable = next((field for field, value in settings if value == name), "environment")
    message = f"{what} {name} does not exist: run `sluice deploy`, or set SLUICE_{variable.upper()}"
    raise ResourceMissing({**response, "Error": {**response["Error"], "Message": message}}, model.name)


def _resource_name(value: Any) -> str:
    """The name in a parameter: a name, an address, an ARN, or the tables of a batch or transaction."""
    if isinstance(value, dict):
        return ", ".join(value)
    if isinstance(value, list):
        return ", ".join(dict.fromkeys(table["TableName"] for each in value for table in each.values()))
    return str(value).rpartition("/")[2].rpartition(":")[2]


class RequestRefused(TerminalError):
    """AWS refuses a request until a person changes something: credentials, permissions, or what is not deployed."""


NOT_FOUND = {
    "404",
    "AWS.SimpleQueueService.NonExistentQueue",
    "EntityNotFoundException",
    "NoSuchBucket",
    "NoSuchBucketPolicy",
    "NoSuchEntity",
    "NotFound",
    "NotFoundException",
    "QueueDoesNotExist",
    "ResourceNotFound",
    "ResourceNotFoundException",
}
"""Error codes by which a service says that a resource does not exist."""

LOG_IN = "Set AWS_PROFILE or another source of credentials, and log in (`aws sts get-caller-identity` must answer)."

_CREDENTIALS_REFUSED = {
    "AuthFailure",
    "ExpiredToken",
    "ExpiredTokenException",
    "IncompleteSignature",
    "IncompleteSignatureException",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "InvalidToken",
    "MissingAuthenticationToken",
    "MissingAuthenticationTokenException",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
    "UnrecognizedClientException",
}
_PERMISSION_DENIED = {
    # S3 answers a HEAD request without a body, so its code is the status.
    "403",
    "AccessDenied",
    "AccessDeniedException",
    "AccountProblem",
    "AllAccessDisabled",
    "AuthorizationError",
    "AuthorizationErrorException",
    "KMS.AccessDeniedException",
    "KMSAccessDenied",
    "KMSAccessDeniedException",
    "NotAuthorized",
    "OptInRequired",
    "SubscriptionRequiredException",
    "UnauthorizedOperation",
}
"""Codes by which services refuse a caller, and a permission, in every protocol of AWS. Errors of a wrong clock
(RequestTimeTooSkewed, RequestExpired) are transient, and not among them."""

_NO_CREDENTIALS = (
    botocore_errors.NoCredentialsError,
    botocore_errors.PartialCredentialsError,
    botocore_errors.ProfileNotFound,
    botocore_errors.ConfigNotFound,
    botocore_errors.ConfigParseError,
    botocore_errors.InvalidConfigError,
    botocore_errors.NoAuthTokenError,
    botocore_errors.UnknownCredentialError,
    botocore_errors.TokenRetrievalError,
    botocore_errors.SSOError,
    botocore_errors.LoginError,
)
"""Errors of botocore before it sends a request, if it has no usable credentials. CredentialRetrievalError is not among
them: its source may answer later."""

_STARTS = {"StartCrawler": "Glue crawler", "StartJobRun": "Glue job"}
"""Operations that operators of Airflow's Amazon provider call through clients of their own -> what they start."""


def as_terminal(error: BaseException) -> TerminalError | None:
    """Translate an error into a terminal one that says what to do; None if a retry may succeed.

    For errors of any client: `client_of` recognises missing resources, but not every request uses its clients.
    """
    if isinstance(error, TerminalError):
        return error
    code = error_code(error)
    if code in _CREDENTIALS_REFUSED or isinstance(error, _NO_CREDENTIALS):
        return RequestRefused(f"AWS does not accept the credentials: {str(error).rstrip('.')}. {LOG_IN}")
    if code in _PERMISSION_DENIED:
        way_out = "Give this permission to the user or role that sluice runs as, or use another one."
        return RequestRefused(f"AWS denies access: {str(error).rstrip('.')}. {way_out}")
    if isinstance(error, ClientError) and code == "EntityNotFoundException" and error.operation_name in _STARTS:
        what = _STARTS[error.operation_name]
        return RequestRefused(f"{what} does not exist ({str(error).rstrip('.')}): run `sluice deploy`")
    return None
