"""What carries calls to an upstream: as much of it as its calls have to know."""

from collections.abc import Awaitable
from typing import Any, Protocol

from erlmcp.client import Identity
from erlmcp.gateway._leases import Leases
from erlmcp.gateway._metrics import Tally
from erlmcp.gateway._names import Naming
from erlmcp.governor import Breaker, RetryBudget
from erlmcp.interfaces import ToolDefinition


class Carrier(Protocol):
    """What carries calls; see `erlmcp.gateway.Upstream`."""

    @property
    def name(self) -> str:
        """The upstream's name."""

    @property
    def naming(self) -> Naming:
        """The names that it has here."""

    @property
    def leases(self) -> Leases:
        """Its sessions."""

    @property
    def era(self) -> str | None:
        """Its era; None while that is not known."""

    @property
    def child(self) -> bool:
        """Whether it is a process that this one has started."""

    @property
    def stream(self) -> bool:
        """Whether it speaks over a stream."""

    @property
    def breaker(self) -> Breaker:
        """Whether it is asked at all."""

    @property
    def budget(self) -> RetryBudget:
        """How many calls may be made again."""

    @property
    def tally(self) -> Tally:
        """What became of its calls."""

    def identity(self, capabilities: dict[str, Any]) -> Identity:
        """Who it is told that a client with these capabilities is."""

    def relist(self, *kinds: str) -> Awaitable[None]:
        """Fetch its lists again."""

    def tool(self, name: str) -> ToolDefinition | None:
        """The definition of a tool, by its name here."""

    @property
    def own(self) -> bool:
        """Whether it is a provider of ours: each of its processes works on one call at a time."""

    def may_be_another(self) -> None:
        """What was found out about its era may not be true any more: find it out anew."""

    def has_ended(self, why: str) -> None:
        """A process of its was ended for what it did, or did not do."""
