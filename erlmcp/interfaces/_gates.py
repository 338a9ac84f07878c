"""The pipeline's gates, by the one question that each asks."""

from collections.abc import Awaitable

from twisted.plugin import IPlugin
from zope.interface import Attribute, Interface

from erlmcp.interfaces._outcome import Outcome
from erlmcp.interfaces._request import Request
from erlmcp.interfaces._values import Principal


class IGate(Interface):
    """One question about a request: may it pass?"""

    def check(request: Request) -> Awaitable[None] | None:
        """Pass by returning None (or an awaitable of it, if the answer takes time), refuse by raising.

        Raises:
            erlmcp.protocol.McpError: the refusal, as the client gets it.
        """


class IAdmission(IGate):
    """Gate 6: it also gives the request its deadline, and counts what is under way."""

    def release(request: Request) -> None:
        """A request that passed has ended, or is parked. Called exactly once for each that passed."""


class IAuthorize(IGate):
    """Gate 3, which also decides what lists show."""

    def shows(principal: Principal, method: str, name: str) -> bool:
        """Whether `principal` may use `method` on `name`, and so see it in lists."""

    everything: bool = Attribute("whether `shows` is always true, so that lists are the same for everybody")


class ICounters(Interface):
    """Where the pipeline counts: plain slots, read by a collector when asked."""

    def request(request: Request, outcome: str, seconds: float) -> None:
        """Count one request at the pipeline's end.

        Args:
            request: the request.
            outcome: ``complete``, ``error``, ``input_required``, ``cancelled`` or ``refused``.
            seconds: since it was received.
        """

    def error(method: str, code: int) -> None:
        """Count one error answer by its code; `method` is empty where it could not be read."""


class IRecord(Interface):
    """The receipt's two halves (gates 7 and 10) and what else is counted for each request."""

    def intent(request: Request) -> Awaitable[None] | None:
        """Record what is about to be done, before it is dispatched."""

    def outcome(
        request: Request, outcome: Outcome | None, error: BaseException | None
    ) -> Awaitable[None] | None:
        """Record what came of it: an outcome, or the error or refusal."""


class IAuthenticator(IPlugin):
    """A plugin that turns a transport's credentials into a principal."""

    name: str = Attribute("what ``[auth]`` calls it")

    def authenticate(request: Request) -> Principal | Awaitable[Principal | None] | None:
        """The principal; None if these are not this authenticator's credentials. Raises McpError to refuse."""


class IPolicy(IPlugin):
    """A plugin that adds authorization rules; asked after validation, so it sees the arguments."""

    name: str = Attribute("what ``[auth]`` calls it")

    def permits(request: Request) -> bool | Awaitable[bool]:
        """Whether the request may go on."""

    def shows(principal: Principal, method: str, name: str) -> bool:
        """Whether lists show this name to this principal."""
