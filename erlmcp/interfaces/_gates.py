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


class IRecord(Interface):
    """The receipt's two halves (gates 7 and 10) and what else is counted for each request."""

    def intent(request: Request) -> Awaitable[None] | None:
        """Record what is about to be done, before it is dispatched."""

    def outcome(request: Request, outcome: Outcome | None, error: BaseException | None) -> Awaitable[None] | None:
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
