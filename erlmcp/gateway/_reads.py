"""Reads that may be answered from what is kept, or together with others that ask the same now."""

from collections.abc import Awaitable, Callable

from msgspec import Raw

from erlmcp.gateway._calls import Calls
from erlmcp.gateway._names import Naming
from erlmcp.gateway._rewriting import carried_meta, own_params
from erlmcp.gateway._sharing import Sharing
from erlmcp.interfaces import Complete, Outcome, Request


class Reads:
    """Answers ``resources/read``.

    Args:
        calls: carries what has to be asked.
        sharing: what is kept, and who waits with whom.
        naming: the upstream's names here.
        context: gives a request's authorization context, its session included where that may make a difference.
    """

    def __init__(
        self, calls: Calls, sharing: Sharing, naming: Naming, context: Callable[[Request], str]
    ) -> None:
        self._calls = calls
        self._sharing = sharing
        self._naming = naming
        self._context = context

    async def dispatch(self, request: Request) -> Outcome:
        """See `erlmcp.interfaces.IBackend`."""
        sharing = self._sharing
        # What a client adds to its `_meta` may make a difference, and is in no key.
        if not sharing.keeps(request) or carried_meta(request.params.meta):
            return await self._calls.dispatch(request)
        method = request.method
        context = self._context(request)
        key = sharing.key(own_params(method, request.params, self._naming))
        kept = sharing.find(context, method, key)
        if kept is not None:
            found = self._calls.outcome(kept.result, request, modern=True)
            if isinstance(found, Complete):
                found.fields["ttlMs"] = kept.ttl_ms
            return found

        if not sharing.joins(request):
            fresh = _Fresh(sharing, context, method, key)
            return await self._calls.dispatch(request, received=fresh.received, asks=fresh.asks)

        def start(part: Callable[[], None]) -> Awaitable[Outcome]:
            fresh = _Fresh(sharing, context, method, key, part)
            return self._calls.dispatch(request, received=fresh.received, asks=fresh.asks)

        return await sharing.coalesce(context, method, key, start)


class _Fresh:
    """An answer on its way; it is kept unless its client was asked something for it."""

    def __init__(
        self, sharing: Sharing, context: str, method: str, key: bytes, part: Callable[[], None] | None = None
    ) -> None:
        self._sharing = sharing
        self._place = (context, method, key)
        self._stamp = sharing.stamp
        self._part = part
        self._asked = False

    def asks(self) -> None:
        self._asked = True
        if self._part is not None:
            self._part()

    def received(self, raw: Raw) -> None:
        if not self._asked:
            self._sharing.keep(*self._place, raw, self._stamp)
