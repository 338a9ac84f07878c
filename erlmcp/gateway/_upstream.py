"""One upstream as a backend: what it offers under our names, and who carries the calls."""

from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any

from msgspec import Raw, Struct, structs
from msgspec.json import decode
from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger
from zope.interface import implementer

from erlmcp.client import (
    Backoff,
    Cache,
    Connection,
    Disconnected,
    Edge,
    Identity,
    Opening,
    WireError,
    change_of,
)
from erlmcp.client import Change as ListChange
from erlmcp.gateway._access import Access
from erlmcp.gateway._attempts import Attempts
from erlmcp.gateway._calls import Calls
from erlmcp.gateway._leases import EVERYBODY, Exhausted, Leases, PoolSettings, Seat, Whose
from erlmcp.gateway._listing import Listing
from erlmcp.gateway._lists import LISTS, Lists
from erlmcp.gateway._metrics import Tally
from erlmcp.gateway._names import Naming
from erlmcp.gateway._own import heard, within
from erlmcp.gateway._pins import Accepted
from erlmcp.gateway._reads import Reads
from erlmcp.gateway._rewriting import definitions
from erlmcp.gateway._session import UpstreamSession
from erlmcp.gateway._sharing import Sharing
from erlmcp.gateway._watching import Following, Watching
from erlmcp.governor import Breaker, BreakerPolicy, BreakerState, RetryBudget
from erlmcp.interfaces import (
    Change,
    Definitions,
    IBackend,
    IClaims,
    IFollows,
    IForgets,
    IHeardLater,
    Outcome,
    Request,
    ResourceDefinition,
    ToolDefinition,
)
from erlmcp.jsonrpc import Limits
from erlmcp.protocol import MODERN
from erlmcp.timing import Wheel

log = Logger(namespace="erlmcp.gateway")

Watcher = Callable[[Change], None]
_FIRST_WORD = 5.0
"""Seconds that a request waits for an upstream that it may be for and that has not been heard yet."""
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
        accepted: how its tools were when somebody accepted them; None if they are not pinned.
        limits: the bounds of one of its messages.
        child: whether it is a process that this one has started.
        own: whether it is a provider of ours, in a process of its own.
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
    accepted: Accepted | None = None
    limits: Limits = Limits()
    child: bool = False
    own: bool = False
    backoff: Backoff = Backoff()


@implementer(IBackend, IClaims, IFollows, IForgets, IHeardLater)
class Upstream:
    """An MCP server elsewhere, or in a child process, as a backend.

    Args:
        plan: how it is used.
        access: makes the way there, once there is a reactor.
        identity: the name and version that it is told; capabilities are the clients' own.
        cache: keeps what it allows to be kept; one may serve several upstreams. None for one of its own.

    Attributes:
        name: the upstream's.
        kind: ``provider`` for one of ours, else ``upstream``.
        naming: the names that it has here.
        child: whether it is a process that this one has started, so that what it keeps in memory nobody else has.
        stream: whether it speaks over a stream.
        own: whether it is a provider of ours, whose processes work on one call at a time each.
        stale: why its lists may not be true any more; None if they are fresh.
        problems: what is wrong with its definitions: a sentence for each tool left out.
        breaker: whether it is asked at all.
        budget: how many calls may be made again.
        tally: what became of its calls.
    """

    leases: Leases
    listing: Listing
    watching: Watching
    calls: Calls
    reads: Reads
    sharing: Sharing

    def __init__(
        self,
        plan: Plan,
        access: Callable[[Any], Access],
        *,
        identity: tuple[str, str] = ("erlmcp", ""),
        cache: Cache | None = None,
    ) -> None:
        self.name = plan.name
        self.kind = "provider" if plan.own else "upstream"
        self.plan = plan
        self.naming = plan.naming
        self.child = plan.child
        self.stream = plan.stream
        self.own = plan.own
        self.stale: str | None = None
        self.problems: list[str] = []
        self.breaker = Breaker(BreakerPolicy(), on_change=self._breaker_changed)
        self.budget = RetryBudget()
        self.tally = Tally()
        self._make_access = access
        self._identity = identity
        self._cache = cache
        self._memory: dict[str, str] = {}
        self._watchers: list[Watcher] = []
        self._definitions = Definitions(
            cache_scope="private",
            expected=frozenset({"tools", "prompts", "resources", "completions", "logging", "subscribe"}),
        )
        self._pinned: Seat | None = None
        self._failures = 0
        self._stopped = False
        self._started = 0.0
        self._losses = 0
        self._last_loss = ""

    def bind(self, reactor: Any) -> None:
        """Take the reactor to run on; nothing is opened yet.

        Raises:
            ValueError: the way there cannot be: an endpoint, a secret, a sandbox.
        """
        plan = self.plan
        self._reactor = reactor
        self._access = self._make_access(reactor)
        self._wheel = Wheel(reactor, tick=0.1)
        self.leases = Leases(self._session, reactor, plan.pool, stateless=plan.stateless)
        self.listing = Listing(
            plan.name,
            self._control,
            reactor,
            self._listed,
            self._staled,
            dropped=self._drop,
            deadline=plan.list_timeout,
            refresh=plan.refresh,
            backoff=plan.backoff,
        )
        self.watching = Watching(plan.name, reactor, self._list_changed, self._updated)
        attempts = Attempts(self, self._access.context, reactor.seconds)
        self.calls = Calls(self, attempts, reactor.seconds)
        self.sharing = Sharing(plan.name, self._cache or Cache(reactor.seconds))
        self.reads = Reads(self.calls, self.sharing, plan.naming, attempts.sharing_context)

    # the backend

    def definitions(self) -> Definitions:
        """See `IBackend`."""
        return self._definitions

    def watch(self, watcher: Watcher) -> Callable[[], None]:
        """See `IBackend`."""
        self._watchers.append(watcher)
        return lambda: self._watchers.remove(watcher)

    def follow(self, uri: str) -> Following:
        """See `IFollows`."""
        own = self.plan.naming.own_uri(uri)
        return Following(None, uri) if own is None else self.watching.follow(own)

    def claim(self, uri: str) -> ResourceDefinition | None:
        """See `IClaims`. A URI that is not rewritten shows nothing of whose it is."""
        naming = self.plan.naming
        if not naming.changes_uris or "resources" not in self.listing.lists.capabilities:
            return None
        return None if naming.own_uri(uri) is None else ResourceDefinition(uri=uri, wire=Raw(b"{}"))

    def forget_sessions(self, sessions: Collection[str]) -> None:
        """See `IForgets`."""
        self.leases.forget_sessions(sessions)

    def dispatch(self, request: Request) -> Outcome | Awaitable[Outcome]:
        """See `IBackend`."""
        if request.method == "resources/read":
            return self.reads.dispatch(request)
        return self.calls.dispatch(request)

    # its life

    def start(self) -> Deferred[None] | None:
        """Find out what it offers; it need not be there yet.

        Returns:
            For a provider of ours, a Deferred that fires once that has been tried: it belongs to the daemon, which is
            not ready without it. Nobody waits for anybody else's.
        """
        if self._stopped:
            self._stopped = False
            self.bind(self._reactor)
        self._started = self._reactor.seconds()
        self.listing.start()
        if self.plan.eager:
            for _ in range(self.plan.pool.size - self.leases.count):
                self.leases.warm(EVERYBODY)
        return self.listing.fresh() if self.plan.own and not self.listing.known else None

    def first_word(self, seconds: float) -> Deferred[None] | None:
        """Wait until it has said what it offers, or cannot; None if it has, or has failed to before.

        Args:
            seconds: how long at most.
        """
        tried = self.listing.tried()
        if tried is None:
            return None
        # Whichever way it goes, nobody needs to know here.
        return tried.addTimeout(seconds, self._reactor).addErrback(lambda _: None)

    def may_have(self, method: str, name: str) -> Deferred[None] | None:
        """See `IHeardLater`."""
        if self._stopped:
            return None
        if method.endswith("/list"):
            # A list says what there is, also while one upstream hangs: only at the start is it waited with.
            left = self._started + _FIRST_WORD - self._reactor.seconds()
            return self.first_word(left) if left > 0 else None
        naming = self.plan.naming
        own = {"tools/call": naming.own_tool, "prompts/get": naming.own_prompt}.get(method, naming.own_uri)
        return None if own(name) is None else self.first_word(_FIRST_WORD)

    def stop(self) -> Deferred[None]:
        """End its sessions; fires when they have ended. It may be started again."""
        self._stopped = True
        self.listing.stop()
        self.watching.stop()
        self._unpin()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        await self.leases.close()
        self._wheel.stop()
        await self._access.close()

    def detail(self) -> Mapping[str, Any]:
        """What ``erlmcp status`` shows of it."""
        return {
            "sessions": self.leases.count,
            "waiting": self.leases.waiting,
            "era": self.era or "unknown",
            "stale": self.stale or "",
            "tools": len(self._definitions.tools),
            "problems": len(self.problems),
            "breaker": self.breaker.state.value,
            "losses": self._losses,
            **({"last loss": self._last_loss} if self._last_loss else {}),
            **({"failing": self.failing} if self.failing else {}),
        }

    @property
    def failing(self) -> str | None:
        """Why a provider of ours cannot be had; None if it can, or is somebody else's, whom we do not answer for.

        One whose process has ended just now is started again, and is not failing for that.
        """
        if not self.plan.own or self._stopped:
            return None
        if self.breaker.state is BreakerState.OPEN:
            return f"it is left alone for now: {self.breaker.why}"
        return self.stale if self.listing.unheard else None

    @property
    def era(self) -> str | None:
        """``modern`` or ``handshake``; None while it is not known."""
        return next(iter(self._memory.values()), None) or _era(self.plan.era)

    def may_be_another(self) -> None:
        """Find out its era anew when it is next connected: what it answers does not fit what is known of it."""
        self._memory.clear()

    def has_ended(self, why: str) -> None:
        """A process of its had to be ended."""
        log.warn("{name}: a process of its is ended: {why}", name=self.name, why=why)  # noqa: G010 - Twisted's name
        self._note_loss(f"ended: {why}")

    def _note_loss(self, why: str) -> None:
        self._losses += 1
        self._last_loss = why[:300]

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
        target = self._access.target(whose.who)
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
        connection = Connection(target.peer, opening, answering, self._reactor, self.plan.backoff, notified)
        connection.on_lost = self._lost_one
        return connection

    # what it offers

    def _control(self) -> Deferred[Any]:
        """The edge that lists are asked for on, and changes heard; its session stays."""
        if self._pinned is None:
            try:
                seat = self._pinned = self.leases.pin(EVERYBODY)
            except Exhausted as error:
                return fail(Disconnected(self.name, WireError(str(error), unsent=True)))
            seat.on_retired = self._moved
            seat.member.connection.on_lost = self._lost
        connection: Connection = self._pinned.member.connection
        return connection.connected().addCallbacks(
            self._listen, self._not_connected, callbackArgs=(connection,), errbackArgs=(connection,)
        )

    def _unpin(self) -> None:
        seat, self._pinned = self._pinned, None
        if seat is not None:
            seat.on_retired = None
            seat.member.connection.on_lost = self._lost_one
            self.leases.unpin(seat)

    def _moved(self) -> None:
        """The session is to be ended: take another."""
        self._unpin()
        self.listing.want(*LISTS)

    def _lost_one(self, error: WireError) -> None:
        self._note_loss(str(error))

    def _lost(self, error: WireError) -> None:
        self._note_loss(str(error))
        self.listing.lost(str(error))

    def _drop(self, edge: Edge) -> None:
        if self._pinned is not None:
            self._pinned.member.connection.drop(edge)

    def _not_connected(self, failure: Any, connection: Connection) -> Any:
        if connection.failures != self._failures:
            # One that was not tried, since the last one was just now, says nothing new.
            self._failures = connection.failures
            self.breaker.connect_failed(self._reactor.seconds())
        return failure

    def _listen(self, edge: Edge, connection: Connection) -> Any:
        self.breaker.connected(self._reactor.seconds())
        # First it is heard what changes, then it is asked what there is: nothing is missed between the two.
        heard = self.watching.listen_on(connection, edge)
        return edge if heard is None else heard.addCallback(lambda _: edge)

    def _told(self, method: str, params: Raw) -> None:
        change = change_of(method, params)
        if change is not None:
            self.sharing.changed(method, change.uri)
            if not self.watching.hears(change.kind):
                # Some tell of changes and do not say that they do.
                self.listing.heard(change)

    def _list_changed(self, change: ListChange) -> None:
        self.sharing.changed(f"notifications/{change.kind}/list_changed", None)
        self.listing.heard(change)

    def _updated(self, own: str) -> None:
        self.sharing.changed("notifications/resources/updated", own)
        self._tell(Change("updated", self.plan.naming.uri(own), everywhere=True))

    def _listed(self, lists: Lists, differing: frozenset[str]) -> None:
        found, self.problems = definitions(lists, self.plan.naming, self.plan.accepted)
        if self.plan.own:
            found = heard(found)
        if self.plan.timeout is not None:
            found = within(found, self.plan.timeout)
        expected = frozenset(_CHANGED[one] for one in self.listing.unheard)
        self._definitions = structs.replace(found, stale=self.stale or "", expected=expected)
        for problem in self.problems:
            log.warn("{name}: {problem}", name=self.name, problem=problem)  # noqa: G010 - Twisted's name
        # Of the rest, such as whether there are completions, the catalog hears, and no client.
        for kind in sorted({_CHANGED[one] for one in differing}) or ("completions",):
            self._tell(Change(kind, everywhere=True))

    def _staled(self, why: str | None) -> None:
        self.stale = why
        self._definitions = structs.replace(self._definitions, stale=why or "")

    def _tell(self, change: Change) -> None:
        for watcher in tuple(self._watchers):
            watcher(change)

    def _breaker_changed(self, state: BreakerState, why: str) -> None:
        log.warn("{name}: its breaker is {state}: {why}", name=self.name, state=state.value, why=why)  # noqa: G010
        if state is BreakerState.OPEN:
            self.listing.lost(why)


def _era(wanted: str | None) -> str | None:
    if wanted in {None, "modern", "handshake"}:
        return wanted
    return "modern" if wanted == MODERN else "handshake"
