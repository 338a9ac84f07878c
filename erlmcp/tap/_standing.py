"""A backend that can be replaced while it is served, and what is done about one that keeps crashing."""

from collections import deque
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, DeferredList, FirstError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from erlmcp.catalog import Following, Provider
from erlmcp.gateway import Upstream
from erlmcp.interfaces import (
    Change,
    Complete,
    Definitions,
    IBackend,
    IFollowing,
    IFollows,
    NeedsInput,
    Outcome,
    Request,
    ResourceDefinition,
)
from erlmcp.protocol import McpError, errors

log = Logger(namespace="erlmcp.tap")

FIRST_WORDS = 10.0
"""Seconds that a successor waits for what its upstreams say of themselves, while its predecessor serves."""

IN_A_ROW = 3
"""Requests that a backend may fail by raising, one after the other, until it counts as crashed."""

_KINDS = (("tools", ("tools",)), ("prompts", ("prompts",)), ("resources", ("resources", "templates")))


class Crashed(Exception):  # noqa: N818 - it is what happened
    """A backend raised what it should have answered, again and again, or has said that it ended."""


class Breaker:
    """Whether a backend that crashes is built again at once, or left alone for a while. Decisions alone.

    Args:
        most: crashes within `period` that are mended at once.
        period: seconds.
        rest: seconds that it is left alone then. After that it is tried again: one crash more and it rests again.
    """

    def __init__(self, most: int = 3, period: float = 60.0, rest: float = 15.0) -> None:
        self._most = most
        self._period = period
        self._rest = rest
        self._crashes: deque[float] = deque(maxlen=most + 1)
        self._until = 0.0

    def crashed(self, now: float) -> None:
        """It has crashed once more."""
        self._crashes.append(now)
        if len(self._crashes) > self._most and now - self._crashes[0] <= self._period:
            self._until = now + self._rest

    def left(self, now: float) -> float:
        """Seconds that it is left alone from now on; 0 when it may be tried."""
        return max(0.0, self._until - now)


@implementer(IBackend, IFollows)
class Standing:
    """What the catalog knows of a backend: it stays when the backend behind it is replaced.

    Args:
        backend: the first one.
        rebuild: makes another; None where there is no other, and the same is used on.

    Attributes:
        name: the backend's.
        kind: ``provider``, or ``upstream``: what it is called in the tree.
        crashed: called when the backend should be replaced, with the reason; None while nobody cares.
        refusing: why its requests are refused; None if they are not.
        dispatch: as `IBackend` has it; the backend's own wherever that answers for its failures itself.
    """

    def __init__(self, backend: Any, rebuild: Callable[[], Any] | None = None) -> None:
        self.name: str = getattr(backend, "name", "")
        self.kind: str = getattr(backend, "kind", "provider")
        self.crashed: Callable[[Exception], None] | None = None
        self.refusing: str | None = None
        self.dispatch: Callable[[Request], Outcome | Awaitable[Outcome]]
        self._backend = backend
        self._rebuild = rebuild
        self._watchers: list[Callable[[Change], None]] = []
        self._following = Following(lambda _: self._backend)
        self._unwatch: Callable[[], None] | None = None
        self._failures = 0
        self._left = False
        self._ahead = False
        self._heard: Any = None  # the backend whose end is listened for already
        self._serve()

    def definitions(self) -> Definitions:
        """The current snapshot of the backend of now."""
        definitions: Definitions = self._backend.definitions()
        return definitions

    def watch(self, watcher: Callable[[Change], None]) -> Callable[[], None]:
        """Tell `watcher` of each change, that of the backend included; returns what ends the watch."""
        if not self._watchers:
            self._unwatch = self._backend.watch(self._tell)
        self._watchers.append(watcher)

        def unwatch() -> None:
            self._watchers.remove(watcher)
            if not self._watchers and self._unwatch is not None:
                self._unwatch()
                self._unwatch = None

        return unwatch

    def follow(self, uri: str) -> IFollowing:
        """Somebody wants to hear of a resource's updates: the backend of now, and each after it, is told."""
        return self._following.follow(uri)

    def claim(self, uri: str) -> ResourceDefinition | None:
        """What answers a URI that is in no list; None if the backend of now does not."""
        claim: Callable[[str], ResourceDefinition | None] | None = getattr(self._backend, "claim", None)
        return None if claim is None else claim(uri)

    def may_have(self, method: str, name: str) -> Deferred[None] | None:
        """What to wait for before it is said that the backend of now does not offer this."""
        may: Callable[[str, str], Deferred[None] | None] | None = getattr(self._backend, "may_have", None)
        return None if may is None else may(method, name)

    def forget_sessions(self, sessions: Collection[str]) -> None:
        """Clients' sessions have ended: the backend of now is told, if it keeps anything for them."""
        forget: Callable[[Collection[str]], None] | None = getattr(self._backend, "forget_sessions", None)
        if forget is not None:
            forget(sessions)

    def start_ahead(self) -> Deferred[None] | None:
        """As `start`, before anybody supervises it; whoever does then need not start it."""
        begun = self._start()
        self._ahead = True
        return begun

    def start(self) -> Deferred[None] | None:
        """Start the backend of now, if it has to be; be told of its end, if it tells.

        Returns:
            A Deferred that fires once it can serve; None if it can.
        """
        ahead, self._ahead = self._ahead, False
        return None if ahead else self._start()

    def _start(self) -> Deferred[None] | None:
        backend = self._backend
        ended: Deferred[None] | None = getattr(backend, "ended", None)
        if ended is not None and self._heard is not backend:
            self._heard = backend
            ended.addCallbacks(
                lambda _: self._lost(backend, Crashed("it came to an end")),
                lambda failure: self._lost(backend, failure.value),
            )
        begun: Deferred[None] | None = backend.start() if hasattr(backend, "start") else None
        return begun

    @property
    def backend(self) -> Any:
        """The backend of now."""
        return self._backend

    @property
    def left(self) -> bool:
        """Whether nobody supervises it any more."""
        return self._left

    def leave(self) -> None:
        """Nobody is to supervise it any more: it serves who still has it, until it is stopped for good."""
        self._left = True
        self.crashed = None

    def stop(self) -> Deferred[None] | None:
        """Stop the backend of now; a Deferred that fires when it has stopped, or None."""
        if not hasattr(self._backend, "stop"):
            return None
        stopping: Deferred[None] | None = self._backend.stop()
        return stopping

    def detail(self) -> Mapping[str, Any]:
        """What the backend says of itself."""
        return self._backend.detail() if hasattr(self._backend, "detail") else {}

    def replace(self, reactor: Any) -> None:
        """Take a new backend in place of the one of now, which has been stopped.

        Raises:
            Exception: there can be none; the one of now stays.
        """
        if self._rebuild is not None:
            backend = self._rebuild()
            if backend.name != self.name:
                raise ValueError(f"the backend {self.name!r} calls itself {backend.name!r} now")
            if backend is not self._backend:
                if hasattr(backend, "bind"):
                    backend.bind(reactor)
                self._swap(backend)
        self._serve()

    def refuse(self, why: str) -> None:
        """Refuse its requests from now on."""
        self.refusing = why
        self.dispatch = self._refuse

    def _serve(self) -> None:
        self.refusing = None
        self._failures = 0
        # Functions of a `Provider` answer for themselves, whatever they raise, and an `Upstream` has its own breaker
        # and makes its sessions anew: nothing is to be watched there.
        plain = isinstance(self._backend, (Provider, Upstream)) or not hasattr(self._backend, "dispatch")
        self.dispatch = getattr(self._backend, "dispatch", self._refuse) if plain else self._watched

    def _swap(self, backend: Any) -> None:
        old, before = self._backend, self._backend.definitions()
        if self._unwatch is not None:
            self._unwatch()
        self._backend = backend
        if self._watchers:
            self._unwatch = backend.watch(self._tell)
        self._following.gone(old)
        after = backend.definitions()
        for kind, tables in _KINDS:
            if any(getattr(before, table) or getattr(after, table) for table in tables):
                self._tell(Change(kind))

    def _tell(self, change: Change) -> None:
        for watcher in tuple(self._watchers):
            watcher(change)

    def _refuse(self, _request: Request) -> Outcome:
        raise errors.overloaded(f"{self.name} is not available now: {self.refusing}; try again later")

    def _watched(self, request: Request) -> Outcome | Awaitable[Outcome]:
        backend = self._backend
        try:
            answer: Outcome | Awaitable[Outcome] = backend.dispatch(request)
        except (McpError, CancelledError, GeneratorExit):
            raise
        except Exception as error:
            self._failed(backend, error)
            raise
        if isinstance(answer, (Complete, NeedsInput)):
            self._failures = 0
            return answer
        return self._watch_over(backend, answer)

    async def _watch_over(self, backend: Any, answer: Awaitable[Outcome]) -> Outcome:
        try:
            outcome = await answer
        except (McpError, CancelledError, GeneratorExit):
            raise
        except Exception as error:
            self._failed(backend, error)
            raise
        self._failures = 0
        return outcome

    def _failed(self, backend: Any, error: Exception) -> None:
        if backend is not self._backend:
            return
        self._failures += 1
        if self._failures >= IN_A_ROW:
            self._lost(
                backend, Crashed(f"{self._failures} requests in a row: {type(error).__name__}: {error}")
            )

    def _lost(self, backend: Any, error: Exception) -> None:
        if backend is self._backend and self.crashed is not None:
            # Once: what it fails on the way out is of no interest.
            crashed, self.crashed = self.crashed, None
            crashed(error)


class BackendService(Service):
    """One backend as a child of a supervisor: each incarnation but the first builds it anew.

    Args:
        standing: the backend as the catalog knows it.
        breaker: kept over its incarnations.
        reactor: what it runs on.
        first: whether this is the first incarnation, whose backend is there already.

    Attributes:
        ended: fails when the backend has crashed, and when it is to be tried again.
    """

    def __init__(self, standing: Standing, breaker: Breaker, reactor: IReactorTime, *, first: bool) -> None:
        self.ended: Deferred[None] = Deferred()
        self._standing = standing
        self._breaker = breaker
        self._reactor = reactor
        self._first = first
        self._timer: Any = None

    def startService(self) -> Deferred[None] | None:
        """Build it, unless it has crashed too often: then its requests are refused for a while.

        Raises:
            Exception: it could not be built; that counts as a crash.
        """
        Service.startService(self)
        standing, now = self._standing, self._reactor.seconds()
        rest = self._breaker.left(now)
        if rest:
            self._open(rest)
            return None
        if not self._first or standing.refusing is not None:
            try:
                standing.replace(self._reactor)
            except Exception as error:
                self._breaker.crashed(now)
                rest = self._breaker.left(now)
                if not rest:
                    standing.refuse(f"it could not be built again ({type(error).__name__})")
                    raise
                log.failure("{name} could not be built again", name=standing.name)
                self._open(rest)
                return None
            log.info("{name} was built again", name=standing.name)
        standing.crashed = self._crashed
        return standing.start()

    def stopService(self) -> Deferred[None] | None:
        """Stop it, unless it has been left; requests that come before it is built again are refused."""
        Service.stopService(self)
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if self._standing.left:
            return None
        self._standing.crashed = None
        self._standing.refuse("it is being restarted")
        return self._standing.stop()

    def detail(self) -> dict[str, Any]:
        """What it says of itself, and whether it is refused."""
        refusing = self._standing.refusing
        return {**self._standing.detail(), **({} if refusing is None else {"refusing": refusing})}

    def _open(self, rest: float) -> None:
        self._standing.refuse("it keeps crashing")
        log.error("{name} keeps crashing: left alone for {rest:g} s", name=self._standing.name, rest=rest)
        self._timer = self._reactor.callLater(rest, self._try_again)

    def _try_again(self) -> None:
        try:
            self._standing.replace(self._reactor)
        except Exception:  # noqa: BLE001 - a factory may fail as it likes
            log.failure("{name} could not be built again", name=self._standing.name)
            self._breaker.crashed(self._reactor.seconds())
            self._open(self._breaker.left(self._reactor.seconds()) or 1.0)
            return
        log.info("{name} is tried again", name=self._standing.name)
        self._standing.crashed = self._crashed
        self._standing.start()

    def _crashed(self, error: Exception) -> None:
        self._breaker.crashed(self._reactor.seconds())
        self.ended.errback(error)


async def begun(standings: Sequence[Standing], reactor: IReactorTime) -> None:
    """Start backends before they are served, and wait until it is known what they offer, or that they are not there.

    Args:
        standings: the backends.
        reactor: for time: nobody is waited for longer than `FIRST_WORDS`.

    Raises:
        Exception: one could not be started.
    """
    starting: list[Deferred[None]] = []
    for one in standings:
        begun = one.start_ahead()
        word = getattr(one.backend, "first_word", lambda _: None)(FIRST_WORDS)
        starting += [waiting for waiting in (begun, word) if waiting is not None]
    enough: Deferred[None] = Deferred()
    timer = reactor.callLater(FIRST_WORDS, enough.callback, None)
    started: Deferred[Any] = DeferredList(starting, fireOnOneErrback=True, consumeErrors=True)
    # What is late goes on all the same.
    done: Deferred[Any] = DeferredList([started, enough], fireOnOneCallback=True, fireOnOneErrback=True)
    try:
        _, first = await done
        if first:
            log.warn("a backend says nothing yet; it is served as it is")  # noqa: G010 - Twisted's name
    except FirstError as error:
        started.addErrback(lambda _: None)
        inner = error.subFailure
        while isinstance(inner.value, FirstError):
            inner = inner.value.subFailure
        inner.raiseException()
    finally:
        if timer.active():
            timer.cancel()
