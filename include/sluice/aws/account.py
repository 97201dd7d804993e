"""The AWS account of the settings, checked once before a command sends many requests."""

from __future__ import annotations

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    ReadTimeoutError,
)

from sluice.aws.sessions import LOG_IN, connection_arguments
from sluice.errors import TerminalError
from sluice.settings import Settings


class AwsUnavailable(TerminalError):
    """AWS cannot be reached, or does not accept the credentials; the message says what to do."""


def account_id(settings: Settings, *, timeout_seconds: float = 30) -> str:
    """The id of the account to deploy to, as returned by STS.

    Raises:
        AwsUnavailable: AWS cannot be reached, or does not accept the credentials.
    """
    # One attempt: a person waits, and the usual retries would delay the error of a missing server by a minute.
    config = Config(
        connect_timeout=5, read_timeout=timeout_seconds, retries={"mode": "standard", "total_max_attempts": 1}
    )
    sts = boto3.session.Session().client("sts", config=config, **connection_arguments(settings))
    try:
        return sts.get_caller_identity()["Account"]
    except EndpointConnectionError as error:
        way_out = "Check the network." if settings.target == "aws" else "Run `sluice aws start`."
        raise AwsUnavailable(f"{error} {way_out}") from None
    except (ReadTimeoutError, ConnectTimeoutError):
        where = settings.endpoint_url or "AWS"
        raise AwsUnavailable(
            f"{where} did not answer within {timeout_seconds} s; try again, or check its log."
        ) from None
    except (BotoCoreError, ClientError) as error:
        way_out = LOG_IN if settings.target == "aws" else f"Is {settings.endpoint_url} the embedded AWS?"
        raise AwsUnavailable(f"AWS does not accept this user: {error}. {way_out}") from None
