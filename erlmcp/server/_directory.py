"""What the server answers about itself: ``server/discover`` and the four lists."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, DeferredList

from erlmcp.catalog import Catalog
from erlmcp.interfaces import Complete, IAuthorize, Request
from erlmcp.protocol import MODERN_VERSIONS, Cursors

LISTS = {
    "tools/list": ("tools", "tools/call"),
    "prompts/list": ("prompts", "prompts/get"),
    "resources/list": ("resources", "resources/read"),
    "resources/templates/list": ("templates", "resources/read"),
}
"""List method -> the catalog's kind, and the method that its entries are for."""

STALE = "io.erlmcp/stale"
"""The key of `_meta` in a list whose parts are not all fresh: the names of the backends that are as they were."""

FIELDS = {"tools": "tools", "prompts": "prompts", "resources": "resources", "templates": "resourceTemplates"}


class Directory:
    """Pages of the catalog, as this principal may see them.

    Args:
        catalog: what there is.
        authorize: gate 3, which also decides what lists show.
        cursors: seals positions.
        wall_clock: seconds since the epoch.
        page_size: entries a page.
        instructions: the server's own; the catalog's are used where it has none.
    """

    def __init__(
        self,
        catalog: Catalog,
        authorize: IAuthorize,
        cursors: Cursors,
        wall_clock: Callable[[], float],
        *,
        page_size: int,
        instructions: str = "",
    ) -> None:
        self._catalog = catalog
        self._authorize = authorize
        self._cursors = cursors
        self._wall_clock = wall_clock
        self._page_size = page_size
        self._instructions = instructions

    def discover(self, request: Request) -> Complete:  # noqa: ARG002 - the same for everybody
        """``server/discover`` (revision 2026-07-28, server/discover)."""
        fields: dict[str, Any] = {
            "supportedVersions": list(MODERN_VERSIONS),
            "capabilities": self._catalog.capabilities(),
            "ttlMs": self._catalog.ttl_ms,
            "cacheScope": "public",
        }
        instructions = self._instructions or self._catalog.instructions
        if instructions:
            fields["instructions"] = instructions
        return Complete(fields)

    def page(self, request: Request) -> Complete | Awaitable[Complete]:
        """One page of a list, waited with a little while backends that have just started say what they offer.

        Raises:
            McpError: see `_page`.
        """
        coming = self._catalog.coming(request.method, "")
        return self._page_later(request, coming) if coming else self._page(request)

    async def _page_later(self, request: Request, coming: Sequence[Deferred[None]]) -> Complete:
        await DeferredList(coming)
        return self._page(request)

    def _page(self, request: Request) -> Complete:
        """One page of a list; every page of a list has the same ``cacheScope`` (server/utilities/caching).

        Raises:
            McpError: -32602, the cursor is not one of ours, or not for this list and principal.
        """
        kind, method = LISTS[request.method]
        binding = f"{request.principal.kind}\0{request.principal.id}".encode()
        after: str | None = None
        cursor = request.params.cursor
        if not isinstance(cursor, msgspec.UnsetType):
            after = self._cursors.read(kind, cursor, binding, self._wall_clock())
        everything = self._authorize.everything
        principal = request.principal

        def shows(name: str) -> bool:
            return self._authorize.shows(principal, method, name)

        entries, following = self._catalog.page(kind, after, self._page_size, None if everything else shows)
        fields: dict[str, Any] = {
            FIELDS[kind]: entries,
            "ttlMs": self._catalog.ttl_ms,
            "cacheScope": self._catalog.cache_scope if everything else "private",
        }
        stale = self._catalog.stale
        if stale:
            # Who may not see any of a backend's does not learn that there is such a backend.
            names = [
                name for name, offer in stale.items() if everything or any(map(shows, getattr(offer, kind)))
            ]
            fields["_meta"] = {STALE: names}
        if following is not None:
            fields["nextCursor"] = self._cursors.next(kind, following, binding, self._wall_clock())
        return Complete(fields)
