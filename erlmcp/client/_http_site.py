"""Where the exchanges of one wire over HTTP go, what authorizes them, and how much of an answer is taken."""

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from twisted.internet.interfaces import IReactorTime

from erlmcp.client._backoff import Backoff
from erlmcp.web import Pool, split_url

Headers = Sequence[tuple[bytes, bytes]]
"""Names in lower case."""


class Authorizes(Protocol):
    """What puts authorization on the requests to one server: `erlmcp.client.oauth.Authorization` is one.

    Attributes:
        observes: whether it wants to see the headers of each answer.
        extensions: names of the MCP extensions that the way to a token belongs to.
    """

    observes: bool

    @property
    def extensions(self) -> Sequence[str]:
        """See above."""

    def ready(self, method: str, url: str) -> Headers | None:
        """The headers for a request, if they are at hand; None where the coroutine has to be asked."""

    def headers(self, method: str, url: str) -> Awaitable[Headers]:
        """The headers for a request, authorization fetched or refreshed before if it must be."""

    def challenged(
        self, status: int, headers: Headers, method: str, url: str, sent: Headers = ()
    ) -> Awaitable[bool]:
        """Whether a request that was answered 401 or 403 is worth sending again; `sent` is what it was given."""

    def observed(self, headers: Headers) -> None:
        """Look at the headers of an answer; those of 401 and 403 are given to `challenged` instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpLimits:
    """What one wire over HTTP takes, and how long it tries.

    Attributes:
        message: bytes of one JSON document or of one event, as the server sends it.
        exchanges: messages under way at once.
        challenges: how often one message is sent again after a 401 or 403.
        redirects: how many redirects (307, 308, same origin) one message follows.
        resumptions: how often in a row a lost stream is taken up again without getting on.
        linger: seconds that a stream may stay open after the answer that should have ended it.
        opening: seconds that the 2024-11-05 stream may take to say where messages go.
        hold: seconds, at most, that messages wait until the server has taken ``notifications/initialized``.
        farewell: seconds that the deletion of a session may take.
        backoff: the pauses before a lost stream is taken up again, where the server does not say.
    """

    message: int = 4 * 1024 * 1024
    exchanges: int = 10_000
    challenges: int = 3
    redirects: int = 3
    resumptions: int = 5
    linger: float = 5.0
    opening: float = 10.0
    hold: float = 10.0
    farewell: float = 5.0
    backoff: Backoff = field(default_factory=lambda: Backoff(longest=60.0))


class Site:
    """One URL, and the means to reach it.

    Attributes:
        peer: the URL without its query, as errors name it.

    Raises:
        ValueError: the URL is none that HTTP can be spoken to.
    """

    __slots__ = ("authorization", "clock", "headers", "limits", "origin", "peer", "pool", "target", "url")

    def __init__(
        self,
        pool: Pool,
        clock: IReactorTime,
        url: str,
        *,
        authorization: Authorizes | None = None,
        headers: Headers = (),
        limits: HttpLimits | None = None,
    ) -> None:
        self.origin, self.target = split_url(url)
        self.pool = pool
        self.clock = clock
        self.url = url.partition("#")[0]
        self.peer = self.url.partition("?")[0]
        self.authorization = authorization
        self.headers = tuple(headers)
        self.limits = limits or HttpLimits()

    def elsewhere(self, url: str) -> "Site":
        """The same means towards another URL."""
        return Site(
            self.pool,
            self.clock,
            url,
            authorization=self.authorization,
            headers=self.headers,
            limits=self.limits,
        )
