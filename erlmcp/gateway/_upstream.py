"""One upstream as a backend: what it offers under our names, and who carries the calls."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from msgspec import Raw, Struct
from msgspec.json import decode
from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger
from zope.interface import implementer

from erlmcp.client import (
    Backoff,
    Connection,
    Disconnected,
    Identity,
    Opening,
    Subscription,
    Target,
    WireError,
)
from erlmcp.gateway._calls import Calls
from erlmcp.gateway._leases import Exhausted, Leases, PoolSettings, Seat, Whose
from erlmcp.gateway._listing import LISTS, Listing, Lists
from erlmcp.gateway._names import Naming
from erlmcp.gateway._rewriting import definitions
from erlmcp.gateway._session import UpstreamSession
from erlmcp.governor import Breaker, BreakerPolicy, RetryBudget
from erlmcp.interfaces import Change, Definitions, IBackend, Outcome, Principal, Request, ToolDefinition
from erlmcp.jsonrpc import Limits
from erlmcp.timing import Wheel

log = Logger(namespace="erlmcp.gateway")

Watcher = Callable[[Change], None]
_CHANGED = {"tools": "tools", "prompts": "prompts", "resources": "resources", "templates": "resources"}


class Plan(Struct, frozen=True, kw_only=True):
    """How one upstream is used.

    Attributes:
        name: the upstream's.
        naming: the names it gets here.
        stream: whether it speaks over a stream (a child, TCP), where a question cannot be told from another's.
        pool: how many sessions there may be with it.
        stateless: whether any session will do for any call.
        era: as `erlmcp.client.Client` takes it.
        timeout: seconds for a call; None for the server's default.
        connect_timeout: seconds for each step of connecting.
        list_timeout: seconds for each page of its lists.
        refresh: seconds after which its lists are asked for again.
        eager: whether its sessions are made at the start rather than when they are needed.
        shared: whether what is shown to it is the same for all principals.
        limits: the bounds of one of its messages.
        backoff: the pauses between attempts to connect.
    """

    name: str
    naming: Naming
    stream: bool = False
    pool: PoolSettings = PoolSettings()
    stateless: bool = False
    era: str | None = None
    timeout: float | None = None
    connect_timeout: float = 30.0
    list_timeout: float = 30.0
    refresh: float = 300.0
    eager: bool = False
    shared: bool = True
    limits: Limits = Limits()
    backoff: Backoff = Backoff()


@implementer(IBackend)
class Upstream:
    """An MCP server elsewhere, or in a child process, as a backend.

    Args:
        plan: how it is used.
        target: gives the way there for a principal's authorization context; empty for what all share.
        reactor: what it runs on.
        identity: the name and version that it is told; capabilities are the clients' own.
        context: gives a principal's authorization context.
        memory: which era it was found to be of.

    Attributes:
        name: the upstream's.
        stale: why its lists may not be true any more; None if they are fresh.
        problems: what is wrong with its definitions: a sentence for each tool left out.
    """

    def __init__(
        self,
        plan: Plan,
        target: Callable[[str], Target],
        reactor: Any,
        *,
        identity: tuple[str, str] = ("erlmcp", ""),
        context: Callable[[Principal], str] = lambda _: "",
        memory: dict[str, str] | None = None,
    ) -> None:
        self.name = plan.name
        self.plan = plan
        self.stale: str | None = None
        self.problems: list[str] = []
        self._target_for = target
        self._targets: dict[str, Target] = {}
        self._reactor = reactor
        self._identity = identity
        self._memory: dict[str, str] = {} if memory is None else memory
        self._wheel = Wheel(reactor, tick=0.1)
        self._watchers: list[Watcher] = []
        self._definitions = Definitions(cache_scope="private")
        self.leases = Leases(self._session, reactor, plan.pool, stateless=plan.stateless)
        self.listing = Listing(
            plan.name,
            self._control,
            reactor,
            self._listed,
            self._staled,
            deadline=plan.list_timeout,
            refresh=plan.refresh,
        )
        self.breaker = Breaker(BreakerPolicy())
        self.budget = RetryBudget()
        self.calls = Calls(self, context, reactor.seconds)
        self._pinned: Seat | None = None
        self._subscription: Subscription | None = None

    # the backend

    def definitions(self) -> Definitions:
        """See `IBackend`."""
        return self._definitions

    def watch(self, watcher: Watcher) -> Callable[[], None]:
        """See `IBackend`."""
        self._watchers.append(watcher)
        return lambda: self._watchers.remove(watcher)

    def dispatch(self, request: Request) -> Outcome | Awaitable[Outcome]:
        """See `IBackend`."""
        return self.calls.dispatch(request)

    # its life

    def start(self) -> None:
        """Find out what it offers; it need not be there yet."""
        self.listing.start()
        if self.plan.eager:
            for _ in range(self.plan.pool.size):
                self.leases.warm(Whose())

    def stop(self) -> Deferred[None]:
        """End its sessions; fires when they have ended."""
        self.listing.stop()
        if self._subscription is not None:
            self._subscription.close()
            self._subscription = None
        self._pinned = None
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        await self.leases.close()
        self._wheel.stop()
        for target in self._targets.values():
            await target.close()

    def detail(self) -> Mapping[str, Any]:
        """What ``erlmcp status`` shows of it."""
        return {
            "sessions": self.leases.count,
            "waiting": self.leases.waiting,
            "era": self.era or "unknown",
            "stale": self.stale or "",
            "tools": len(self._definitions.tools),
            "problems": len(self.problems),
        }

    @property
    def era(self) -> str | None:
        """``modern`` or ``handshake``; None while it is not known."""
        return self._memory.get(self._target("").peer) or self.plan.era

    @property
    def naming(self) -> Naming:
        """The names that it has here."""
        return self.plan.naming

    @property
    def stream(self) -> bool:
        """Whether it speaks over a stream."""
        return self.plan.stream

    def relist(self, *kinds: str) -> Deferred[None]:
        """Fetch its lists again; fires when that has been tried."""
        return self.listing.fresh(*kinds)

    def tool(self, name: str) -> ToolDefinition | None:
        """The definition of a tool, by its name here."""
        return self._definitions.tools.get(name)

    def identity(self, capabilities: dict[str, Any]) -> Identity:
        """Who the upstream is told that a client with these capabilities is."""
        name, version = self._identity
        return Identity(name, version, capabilities)

    # sessions

    def _session(self, whose: Whose) -> UpstreamSession:
        return UpstreamSession(self._connection, whose, self._told, self.name)

    def _connection(self, whose: Whose, answering: Any, notified: Any) -> Connection:
        target = self._target(whose.principal if not self.plan.shared else "")
        opening = Opening(
            target.make_wire,
            self.identity(decode(whose.capabilities)),
            self._wheel,
            self._reactor,
            make_old_wire=target.make_old_wire,
            era=self.plan.era,
            memory=self._memory,
            timeout=self.plan.connect_timeout,
            limits=self.plan.limits,
        )
        return Connection(target.peer, opening, answering, self._reactor, self.plan.backoff, notified)

    def _target(self, context: str) -> Target:
        if context not in self._targets:
            self._targets[context] = self._target_for(context)
        return self._targets[context]

    # what it offers

    def _control(self) -> Deferred[Any]:
        """The edge that lists are asked for on; its session stays."""
        if self._pinned is None or self._pinned.retiring:
            try:
                self._pinned = self.leases.pin(Whose())
            except Exhausted as error:
                return fail(Disconnected(self.name, WireError(str(error), unsent=True)))
        connection: Connection = self._pinned.member.connection
        return connection.connected().addCallback(self._listen, connection)

    def _listen(self, edge: Any, connection: Connection) -> Any:
        if self._subscription is None:
            kinds = [
                kind for kind in ("tools", "prompts", "resources") if edge.server.offers(kind, "listChanged")
            ]
            if kinds:
                self._subscription = connection.subscriptions.add(kinds, [], self.listing.heard)
                self._subscription.acknowledged.addErrback(self._not_told)
        return edge

    def _not_told(self, failure: Any) -> None:
        log.info("{name}: it does not tell of changes: {error}", name=self.name, error=failure.value)

    def _told(self, method: str, params: Raw) -> None:
        del method, params

    def _listed(self, lists: Lists, differing: frozenset[str]) -> None:
        self._definitions, self.problems = definitions(lists, self.plan.naming)
        for problem in self.problems:
            log.warn("{name}: {problem}", name=self.name, problem=problem)  # noqa: G010 - Twisted's name
        self._tell(differing or frozenset(LISTS))

    def _staled(self, why: str | None) -> None:
        self.stale = why

    def _tell(self, kinds: frozenset[str]) -> None:
        for kind in sorted({_CHANGED[one] for one in kinds}):
            for watcher in tuple(self._watchers):
                watcher(Change(kind))
