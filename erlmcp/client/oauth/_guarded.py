"""The `Fetch` for real: over a pool of its own, which connects to nothing that the guard does not admit."""

from collections.abc import Iterable
from typing import Any

from twisted.internet.defer import Deferred

from erlmcp.client.oauth._errors import AuthorizationError
from erlmcp.client.oauth._fetching import Fetched, Headers
from erlmcp.client.oauth._guard import AddressGuard
from erlmcp.web import Pool, Tls, WebError, fetch

_CONNECTIONS = 4
_QUEUE = 100


class GuardedFetch:
    """Sends the requests of authorization. One is enough for a process.

    Args:
        reactor: connects, and resolves names.
        allow: networks that may be reached although they are not public: see `AddressGuard`.
        tls: whom to believe, where the platform's roots are not enough.

    Raises:
        ValueError: one of `allow` is no network.
    """

    def __init__(self, reactor: Any, *, allow: Iterable[str] = (), tls: Tls | None = None) -> None:
        guard = AddressGuard(allow)
        self._pool = Pool(
            reactor, tls=tls, admit=guard.admit, connections_per_origin=_CONNECTIONS, queue=_QUEUE, idle=20.0
        )

    async def __call__(
        self,
        method: str,
        url: str,
        *,
        headers: Headers,
        body: bytes,
        limit: int,
        timeout: float,  # noqa: ASYNC109 - what sends the request keeps it
    ) -> Fetched:
        """See `Fetch`."""
        try:
            return await fetch(
                self._pool, method, url, headers=list(headers), body=body, limit=limit, timeout=timeout
            )
        except (WebError, ValueError) as error:
            raise AuthorizationError(
                f"{method} {url}: {error}", transient=isinstance(error, WebError)
            ) from None

    def close(self) -> Deferred[None]:
        """End all connections."""
        return self._pool.close()
