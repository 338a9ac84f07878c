"""A session with an upstream as it is lent: whose it is, who uses it, and how many there may be."""

from collections.abc import Callable
from typing import Any, Final, Protocol

from msgspec import Struct
from twisted.internet.defer import Deferred

from erlmcp.interfaces import ANONYMOUS, Principal


class Whose(Struct, frozen=True):
    """Whose a session is. Two that differ in `who` alone are the same.

    Attributes:
        principal: the authorization context; empty where the upstream does not tell callers apart.
        capabilities: what its client can be asked, encoded.
        session: the client's own session; empty for clients without one.
        who: the principal that asked first.
    """

    principal: str = ""
    capabilities: bytes = b"{}"
    session: str = ""
    who: Principal = ANONYMOUS

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Whose) and self.key == other.key

    def __hash__(self) -> int:
        return hash((self.principal, self.capabilities, self.session))

    @property
    def key(self) -> tuple[str, bytes, str]:
        """What tells it from another."""
        return self.principal, self.capabilities, self.session


EVERYBODY: Final = Whose()
"""All those whom their upstream does not tell apart, and cannot ask anything."""


class PoolSettings(Struct, frozen=True, kw_only=True):
    """How many sessions there may be with one upstream.

    Attributes:
        size: those that are kept although nobody uses them.
        overflow: those beyond, ended once they are idle.
        idle: seconds until then.
        queue: calls that may wait for a session.
        recycle: calls after which a session is ended and another made; 0 for never.
        probe: seconds without a word after which an idle session is asked whether it is there; 0 for never.
        lasting: seconds until an idle session ends that stands for a client's own, and may hold what that client did:
            as long as what can be resumed of the client's own is kept.
        parking: seconds that a session is kept for calls that it holds until their clients come back.
    """

    size: int = 1
    overflow: int = 15
    idle: float = 60.0
    queue: int = 10_000
    recycle: int = 0
    probe: float = 30.0
    lasting: float = 1800.0
    parking: float = 600.0


class Member(Protocol):
    """What is lent: a connection to the upstream."""

    def close(self) -> "Deferred[None]":
        """End it."""

    def ping(self) -> "Deferred[None]":
        """Ask whether it is there; fails if it is not."""


class Exhausted(Exception):  # noqa: N818 - it reads as what it says
    """As many sessions as there may be are in use, and as many calls wait as may."""


class Gone(Exception):  # noqa: N818 - it reads as what it says
    """The one session that would do has broken."""


class Seat:
    """One session and who uses it.

    Attributes:
        number: what tells it from all others of its upstream, also of those before.
        member: the connection.
        whose: whose it is.
        calls: how many calls use it now.
        alone: whether one call has it for itself.
        served: how many calls it has served.
        pins: what else needs it to stay, such as a subscription.
        broken: whether it is good for nobody any more.
        on_retired: called when it is to be ended, for who has pinned it to let go of it; None for nobody.
        parked: until when it is kept for each call that it holds until its client comes back, the first first.
    """

    __slots__ = (
        "alone",
        "broken",
        "calls",
        "idle_since",
        "member",
        "number",
        "on_retired",
        "parked",
        "pins",
        "probing",
        "retiring",
        "served",
        "whose",
    )

    def __init__(self, number: int, member: Any, whose: Whose, now: float) -> None:
        self.number = number
        self.member = member
        self.whose = whose
        self.calls = 0
        self.alone = False
        self.served = 0
        self.pins = 0
        self.idle_since = now
        self.retiring = False
        self.broken = False
        self.probing = False
        self.on_retired: Callable[[], None] | None = None
        self.parked: list[float] = []

    @property
    def shareable(self) -> bool:
        """Whether any call of whose it is may use it, too."""
        return not (self.alone or self.retiring or self.parked)

    @property
    def idle(self) -> bool:
        """Whether nobody needs it."""
        return not self.calls and not self.pins and not self.parked
