"""The lists of an upstream: what they are, and how one of them is asked for, page by page, within bounds."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct
from twisted.internet.interfaces import IReactorTime

from erlmcp.client import BadAnswer, Edge, ServerError, TimedOut
from erlmcp.jsonrpc import METHOD_NOT_FOUND

_MOST_ENTRIES: Final = 50_000
_MOST_BYTES: Final = 64 * 1024 * 1024
_MOST_PAGES: Final = 1_000
_LONGEST_TTL: Final = 24 * 3600 * 1000

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
    cache_scope: str = "private"


class Fetched(Struct, frozen=True):
    """One list.

    Attributes:
        entries: raw.
        offered: whether the upstream has such a list at all.
        ttl_ms: the least that a page says; 0 where none is said, as in the handshake revisions.
        public: whether every page says that it is the same for everybody.
    """

    entries: tuple[Raw, ...] = ()
    offered: bool = False
    ttl_ms: int = 0
    public: bool = False


class _Page(Struct, rename="camel"):
    next_cursor: str | None = None
    ttl_ms: float = 0
    cache_scope: str = "private"


_read_page: Final = msgspec.json.Decoder(_Page).decode
_read_members: Final = msgspec.json.Decoder(dict[str, Raw]).decode
_read_entries: Final = msgspec.json.Decoder(list[Raw]).decode


async def fetch(edge: Edge, kind: str, clock: IReactorTime, deadline: float) -> Fetched:
    """Ask for a list.

    Args:
        edge: where.
        kind: which of `LISTS`.
        clock: the reactor's time.
        deadline: seconds for all of its pages together.

    Raises:
        ClientError: it could not be had. An upstream that knows no such method has no such list; that is no error.
    """
    method, member, capability = LISTS[kind]
    peer = edge.conversation.peer
    if not edge.server.offers(capability):
        return Fetched()
    ends = clock.seconds() + deadline
    entries: list[Raw] = []
    size = 0
    ttl = float(_LONGEST_TTL)
    public = True
    cursors: set[str] = set()
    params: dict[str, Any] = {}
    for _ in range(_MOST_PAGES):
        left = ends - clock.seconds()
        if left <= 0:
            raise TimedOut(peer, f"{method}: its pages take more than {deadline:g} s")
        try:
            raw = await edge.request(method, params, timeout=left, longest=left + 1).done
        except ServerError as error:
            # Many declare resources and do not know resources/templates/list.
            if error.code == METHOD_NOT_FOUND and not params:
                return Fetched()
            raise
        size += len(bytes(raw))
        page, part = _read(raw, method, member, peer)
        # A part of a message would keep all of it.
        entries += [Raw(bytes(one)) for one in part]
        ttl = min(ttl, max(page.ttl_ms, 0))
        public = public and page.cache_scope == "public"
        if len(entries) > _MOST_ENTRIES:
            raise BadAnswer(peer, f"{method}: more than {_MOST_ENTRIES} entries")
        if size > _MOST_BYTES:
            raise BadAnswer(peer, f"{method}: more than {_MOST_BYTES} bytes")
        cursor = page.next_cursor
        if cursor is None:
            return Fetched(tuple(entries), offered=True, ttl_ms=int(ttl), public=public)
        if cursor in cursors:
            break
        cursors.add(cursor)
        params = {"cursor": cursor}
    raise BadAnswer(peer, f"{method}: its pages do not end: {len(cursors)} so far")


def _read(raw: Raw, method: str, member: str, peer: str) -> tuple[_Page, list[Raw]]:
    try:
        page = _read_page(raw)
        found = _read_members(raw).get(member)
        if found is None:
            raise BadAnswer(peer, f"{method}: the result has no {member!r}")
        return page, _read_entries(found)
    except msgspec.DecodeError as error:
        raise BadAnswer(peer, f"{method}: {error}") from error
