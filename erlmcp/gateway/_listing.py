"""What an upstream offers, as last heard: fetched within a deadline, and kept while the upstream is away."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from erlmcp.client import BadAnswer, Change, ClientError, Edge

log = Logger(namespace="erlmcp.gateway")

_MOST_ENTRIES: Final = 50_000
_MOST_PAGES: Final = 1_000

LISTS: Final[Mapping[str, tuple[str, str, str]]] = {
    "tools": ("tools/list", "tools", "tools"),
    "resources": ("resources/list", "resources", "resources"),
    "templates": ("resources/templates/list", "resourceTemplates", "resources"),
    "prompts": ("prompts/list", "prompts", "prompts"),
}
"""Of each list: its method, its member in the result, the capability that it belongs to."""


class Lists(Struct, frozen=True):
    """What an upstream offers, as it says it.

    Attributes:
        tools, resources, templates, prompts: the entries, raw.
        capabilities: what it declares.
        instructions: how it wants to be used.
        ttl_ms: how long the lists may be thought fresh: the least that any of them says.
        cache_scope: ``private`` if any of them is.
    """

    tools: tuple[Raw, ...] = ()
    resources: tuple[Raw, ...] = ()
    templates: tuple[Raw, ...] = ()
    prompts: tuple[Raw, ...] = ()
    capabilities: Mapping[str, Any] = {}
    instructions: str = ""
    ttl_ms: int = 0
    cache_scope: str = "public"


class _Page(Struct, rename="camel"):
    next_cursor: str | None = None
    ttl_ms: float = 0
    cache_scope: str = "private"


async def fetch(edge: Edge, kinds: tuple[str, ...], before: Lists, deadline: float) -> Lists:
    """Ask for lists, page by page.

    Args:
        edge: where.
        kinds: which of `LISTS`.
        before: what the others were.
        deadline: seconds for each page.

    Raises:
        ClientError: one of them could not be had.
    """
    server = edge.server
    found: dict[str, Any] = {kind: getattr(before, kind) for kind in LISTS}
    ttls: list[float] = []
    scopes: set[str] = set()
    for kind in kinds:
        method, member, capability = LISTS[kind]
        entries: list[Raw] = []
        if server.offers(capability):
            async for page, part in _pages(edge, method, member, deadline):
                entries += part
                ttls.append(max(page.ttl_ms, 0))
                scopes.add(page.cache_scope)
                if len(entries) > _MOST_ENTRIES:
                    raise BadAnswer(edge.conversation.peer, f"{method}: more than {_MOST_ENTRIES} entries")
        found[kind] = tuple(entries)
    return Lists(
        **found,
        capabilities=server.capabilities,
        instructions=server.instructions,
        ttl_ms=int(min(ttls, default=0)),
        cache_scope="public" if scopes == {"public"} else "private",
    )


async def _pages(edge: Edge, method: str, member: str, deadline: float) -> Any:
    peer = edge.conversation.peer
    cursor: str | None = None
    for _ in range(_MOST_PAGES):
        params = {} if cursor is None else {"cursor": cursor}
        raw = await edge.request(method, params, timeout=deadline, longest=deadline).done
        try:
            page = msgspec.json.decode(raw, type=_Page)
            members = msgspec.json.decode(raw, type=dict[str, Raw])
            entries = msgspec.json.decode(members[member], type=list[Raw])
        except (msgspec.DecodeError, KeyError) as error:
            raise BadAnswer(peer, f"{method}: {error}") from error
        # A part of a message would keep all of it.
        yield page, [Raw(bytes(one)) for one in entries]
        if page.next_cursor is None:
            return
        if page.next_cursor == cursor:
            break
        cursor = page.next_cursor
    raise BadAnswer(peer, f"{method}: its pages do not end")


class Listing:
    """Keeps the lists of one upstream.

    Args:
        upstream: its name.
        connected: gives the edge to ask on.
        clock: the reactor's time.
        changed: called with the new lists and which of them differ from before.
        staled: called when the lists become stale, with the reason, or fresh again, with None.
        deadline: seconds for each page.
        refresh: seconds after which lists are asked for again, of an upstream that does not tell of changes.

    Attributes:
        lists: as last heard.
        known: whether they have been heard at all.
        stale: why they may not be true any more; None if they are fresh.
    """

    def __init__(
        self,
        upstream: str,
        connected: Callable[[], Deferred[Edge]],
        clock: IReactorTime,
        changed: Callable[[Lists, frozenset[str]], None],
        staled: Callable[[str | None], None],
        *,
        deadline: float = 30.0,
        refresh: float = 300.0,
    ) -> None:
        self.lists = Lists()
        self.known = False
        self.stale: str | None = None
        self._upstream = upstream
        self._connected = connected
        self._clock = clock
        self._changed = changed
        self._staled = staled
        self._deadline = deadline
        self._refresh = refresh
        self._wanted: set[str] = set()
        self._busy = False
        self._under_way: Deferred[None] | None = None
        self._waiters: list[Deferred[None]] = []
        self._timer: IDelayedCall | None = None
        self._failures = 0
        self._stopped = False

    def start(self) -> None:
        """Fetch everything, and keep it fresh."""
        self._stopped = False
        self.want(*LISTS)

    def stop(self) -> None:
        """Fetch no more."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._under_way is not None:
            self._under_way.cancel()
        self._done()

    def heard(self, change: Change) -> None:
        """The upstream says that a list has changed."""
        if change.kind == "resources":
            self.want("resources", "templates")
        elif change.kind in LISTS:
            self.want(change.kind)

    def want(self, *kinds: str) -> None:
        """Fetch these lists: now, or after those that are being fetched."""
        self._wanted.update(kinds)
        if not self._busy and not self._stopped:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._busy = True
            self._under_way = Deferred.fromCoroutine(self._fetch())
            self._under_way.addBoth(self._fetched)

    def fresh(self, *kinds: str) -> Deferred[None]:
        """Fetch these lists; fires when that has been tried."""
        waiter: Deferred[None] = Deferred()
        self._waiters.append(waiter)
        self.want(*kinds)
        return waiter

    async def _fetch(self) -> None:
        while self._wanted:
            kinds = tuple(kind for kind in LISTS if kind in self._wanted)
            self._wanted.clear()
            try:
                edge = await self._connected()
                lists = await fetch(edge, kinds, self.lists, self._deadline)
            except ClientError as error:
                self._wanted.update(kinds)
                self._failed(str(error))
                return
            self._failures = 0
            differing = frozenset(kind for kind in LISTS if getattr(lists, kind) != getattr(self.lists, kind))
            first, self.known = not self.known, True
            meta = (lists.capabilities, lists.instructions) != (
                self.lists.capabilities,
                self.lists.instructions,
            )
            self.lists = lists
            if self.stale is not None:
                self.stale = None
                self._staled(None)
            if differing or first or meta:
                self._changed(lists, differing)
        self._later(self._refresh)

    def _fetched(self, outcome: Any) -> None:
        self._busy = False
        self._under_way = None
        if isinstance(outcome, Failure) and not self._stopped:
            log.failure("fetching the lists of {upstream} failed", outcome, upstream=self._upstream)
            self._failed("fetching its lists failed")
        self._done()
        if self._wanted and self._timer is None and not self._stopped:
            self.want()

    def _done(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.called:
                waiter.callback(None)

    def _failed(self, why: str) -> None:
        self._failures += 1
        if self.stale is None:
            self.stale = why
            self._staled(why)
            log.warn("{upstream}: its lists may be stale: {why}", upstream=self._upstream, why=why)  # noqa: G010
        self._later(min(2.0 ** min(self._failures - 1, 10), 30.0))

    def _later(self, pause: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._stopped and pause:
            self._timer = self._clock.callLater(pause, self._again)

    def _again(self) -> None:
        self._timer = None
        self.want(*(self._wanted or LISTS))
