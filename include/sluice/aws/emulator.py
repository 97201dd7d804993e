"""Client side of the embedded AWS: its secret key, and the request that saves its state to disk."""

from __future__ import annotations

import http.client
import urllib.request

from sluice.errors import TerminalError
from sluice.settings import Settings

EMBEDDED_SECRET_KEY = "embedded"
"""The emulator accepts any secret; an access key of twelve digits selects the account."""

SAVE_PATH = "/_sluice/save"
"""A POST to this path makes the server save its state to disk."""


class EmbeddedServerError(TerminalError):
    """The embedded AWS cannot be started, stopped, saved or reset; the message says why and what to do."""


def save(settings: Settings) -> None:
    """Write the state of the server at the settings' endpoint to its disk, as a clean stop does.

    Raises:
        EmbeddedServerError: the endpoint is not a server of this project.
    """
    request("POST", f"{settings.endpoint_url}{SAVE_PATH}", timeout_seconds=60)


def request(method: str, url: str, timeout_seconds: float) -> bytes:
    """The body of the response of the embedded AWS.

    Raises:
        EmbeddedServerError: it does not answer, or answers with an error.
    """
    # Without a proxy of the environment, which would be used for 127.0.0.1 as well.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(urllib.request.Request(url, method=method), timeout=timeout_seconds) as answer:
            body: bytes = answer.read()
            return body
    except (OSError, http.client.HTTPException) as error:
        raise EmbeddedServerError(f"{method} {url} failed ({error}). Is it a server of `sluice aws start`?") from None
