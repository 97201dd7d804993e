"""Sessions and clients: the only place that knows an endpoint or a credential.

A client is cached per service and settings; botocore's own retries (standard mode) absorb throttling and 5xx.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, overload

import boto3
from botocore.config import Config

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

EMBEDDED_SECRET_KEY = "embedded"
"""The emulator takes any secret; an access key of twelve digits is the account."""

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
    """A client that gives up within seconds: for what goes beside a run and must not hold it up."""
    return client_of(service, load_settings(), hasty=True)


@lru_cache(maxsize=64)
def client_of(service: str, settings: Settings, hasty: bool = False) -> Any:
    """The client of a service for given settings."""
    config = EMBEDDED_CLIENT_CONFIG if settings.endpoint_url else CLIENT_CONFIG
    if hasty:
        config = config.merge(HASTY)
    # A session of one's own: boto3's default session is not safe to share between threads.
    session: Any = boto3.session.Session()
    return session.client(service, config=config, **connection_arguments(settings))
