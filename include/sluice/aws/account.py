"""The account that the settings name, asked once before a command makes many requests."""

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
    """The account that will be deployed to, as AWS itself says.

    Raises:
        AwsUnavailable: AWS cannot be reached, or does not accept the credentials.
    """
    # One try: who calls waits for the answer, and the usual retries would hide a server that is not there for a minute.
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
        raise AwsUnavailable(f"{where} did not answer within {timeout_seconds} s; try again, or look at it.") from None
    except (BotoCoreError, ClientError) as error:
        way_out = LOG_IN if settings.target == "aws" else f"Is {settings.endpoint_url} the embedded AWS?"
        raise AwsUnavailable(f"AWS does not accept this user: {error}. {way_out}") from None
