"""What a supervisor is told of its children, and what it tells of them."""

from collections.abc import Callable
from typing import Any, Literal

import msgspec
from twisted.application.service import IService

Restart = Literal["permanent", "transient", "temporary"]
Strategy = Literal["one_for_one", "one_for_all", "rest_for_one", "simple_one_for_one"]
AutoShutdown = Literal["never", "any_significant", "all_significant"]


class TooManyRestarts(Exception):  # noqa: N818 - it is what happened
    """More restarts than a supervisor's intensity allows: it has stopped its children and ended.

    Attributes:
        child: the name of the one that ended last.
        cause: why that one ended.
    """

    def __init__(self, child: str, cause: Exception, intensity: int, period: float) -> None:
        super().__init__(
            f"{child} ended again, and there were {intensity} restarts within {period:g} s already: {spell(cause)}"
        )
        self.child = child
        self.cause = cause


class StartFailure(Exception):  # noqa: N818 - it is what happened
    """A child did not become ready, so that its supervisor has not started.

    Attributes:
        child: its name.
        cause: why.
    """

    def __init__(self, child: str, cause: Exception) -> None:
        super().__init__(f"{child} did not start: {spell(cause)}")
        self.child = child
        self.cause = cause


class NotReady(Exception):  # noqa: N818 - it is what happened
    """A child was not ready within its time, or ended before it was."""


class Ended(Exception):  # noqa: N818 - it is what happened
    """A child came to an end without an error although it is permanent."""


class Backoff(msgspec.Struct, frozen=True, kw_only=True):
    """How long to wait before a child is started again. The first time, not at all; then longer each time.

    Attributes:
        base: seconds before the second restart in a row.
        factor: how much longer each wait is than the one before.
        limit: the longest wait, in seconds.
        jitter: the part of a wait that is left to chance, 0 to 1: children of one cause do not come back in step.
        calm: seconds after which a child that stayed up is thought well: its next restart is a first one.
    """

    base: float = 0.5
    factor: float = 2.0
    limit: float = 30.0
    jitter: float = 0.25
    calm: float = 60.0

    def __post_init__(self) -> None:
        if not (self.base >= 0 and self.factor >= 1 and self.limit >= 0 and 0 <= self.jitter <= 1):
            raise ValueError(f"{self}: base and limit are at least 0, factor at least 1, jitter from 0 to 1")

    def delay(self, failures: int, chance: float) -> float:
        """Seconds to wait.

        Args:
            failures: how many restarts in a row came before this one.
            chance: from 0 to 1.
        """
        if failures == 0:
            return 0.0
        # An exponent of hundreds would overflow; the limit is reached long before.
        longest = min(self.limit, self.base * self.factor ** min(failures - 1, 64))
        return longest * (1 - self.jitter * chance)


class ChildSpec(msgspec.Struct, frozen=True):
    """One child of a supervisor.

    Attributes:
        name: unique among its siblings.
        factory: makes the service, anew for each incarnation. For what a service may offer besides `IService`, see
            docs/howto/supervision.md: a Deferred from ``startService``, ``ended``, ``kill``, ``status``, ``detail``.
        restart: ``permanent``: whenever it ends; ``transient``: when it ends with an error; ``temporary``: never.
        shutdown: seconds that it has to stop; ``forever``; or ``kill``: it is not asked, and not waited for.
        significant: whether its end by itself may end the supervisor (see `Supervisor`, ``auto_shutdown``).
        ready: seconds until a start that has not succeeded counts as failed.
    """

    name: str
    factory: Callable[[], IService]
    restart: Restart = "permanent"
    shutdown: float | Literal["forever", "kill"] = 5.0
    significant: bool = False
    ready: float = 30.0

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("a child needs a name")
        if self.restart not in ("permanent", "transient", "temporary"):
            raise ValueError(
                f"{self.name}: restart={self.restart!r} is none of permanent, transient, temporary"
            )
        if self.shutdown not in ("forever", "kill") and not (
            isinstance(self.shutdown, (int, float)) and self.shutdown >= 0
        ):
            raise ValueError(
                f"{self.name}: shutdown={self.shutdown!r} is no time in seconds, 'forever' or 'kill'"
            )
        if not self.ready > 0:
            raise ValueError(f"{self.name}: ready={self.ready!r} is no time in seconds")
        if self.significant and self.restart == "permanent":
            raise ValueError(f"{self.name}: a permanent child never ends, so it cannot be significant")


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """How a part of the tree fares.

    Attributes:
        name: its name.
        kind: ``supervisor`` or ``child``.
        state: ``idle``, ``starting``, ``up``, ``waiting`` (for its restart), ``stopping`` or ``ended``.
        since: since when, in seconds since the epoch.
        restarts: how often it was started again.
        error: why it ended last; None if it never has.
        detail: what it says of itself, such as addresses or a pid.
        children: of a supervisor.
    """

    name: str
    kind: Literal["supervisor", "child"] = "child"
    state: str
    since: float
    restarts: int = 0
    error: str | None = None
    detail: dict[str, Any] = {}
    children: tuple["Status", ...] = ()


def spell(error: BaseException) -> str:
    """An error as people read it: its text, or its name if it has none."""
    return str(error) or type(error).__name__
