"""What authorization needs of an HTTP client, and how its documents are read: small JSON objects, and nothing else."""

import json
from collections.abc import Awaitable, Sequence
from typing import Any, Final, Protocol

from erlmcp.client.oauth._errors import AuthorizationError

LIMIT: Final = 256 * 1024
"""Bytes that a document of metadata or the answer of a token endpoint may have."""
TIMEOUT: Final = 20.0
"""Seconds that one of them may take."""

Headers = Sequence[tuple[bytes, bytes]]


class Fetched(Protocol):
    """An answer, whole. Header names are lower case."""

    @property
    def status(self) -> int:
        """The HTTP status."""

    @property
    def headers(self) -> Headers:
        """All header fields, in the order in which they came."""

    @property
    def body(self) -> bytes:
        """The body; at most the limit that was given."""


class Fetch(Protocol):
    """Sends one request, follows no redirect, and keeps to addresses that may be reached: see `guarded_fetch`."""

    def __call__(
        self, method: str, url: str, *, headers: Headers, body: bytes, limit: int, timeout: float
    ) -> Awaitable[Fetched]:
        """Send it.

        Raises:
            AuthorizationError: transient; it could not be sent, or the answer did not come, or is too long.
        """


def header(headers: Headers, name: bytes) -> str:
    """The first header field of a name, or an empty string."""
    for key, value in headers:
        if key.lower() == name:
            return value.decode("latin-1")
    return ""


def json_object(body: bytes) -> dict[str, Any] | None:
    """A body as a JSON object, or None if it is none."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


async def get_document(fetch: Fetch, url: str) -> dict[str, Any] | None:
    """Fetch a document of metadata.

    Returns:
        The document; None if there is none at this address (a client error, a redirect, something that is no JSON
        object).

    Raises:
        AuthorizationError: transient; the server has a fault, or cannot be reached.
    """
    headers = [(b"accept", b"application/json")]
    answer = await fetch("GET", url, headers=headers, body=b"", limit=LIMIT, timeout=TIMEOUT)
    if answer.status >= 500 or answer.status == 429:
        raise AuthorizationError(f"{url} answered {answer.status}", transient=True)
    return json_object(answer.body) if answer.status == 200 else None


async def post(fetch: Fetch, url: str, body: bytes, headers: Headers) -> Fetched:
    """Send a form or a document to an endpoint, and take whatever it says."""
    fields = [(b"accept", b"application/json"), *headers]
    return await fetch("POST", url, headers=fields, body=body, limit=LIMIT, timeout=TIMEOUT)
