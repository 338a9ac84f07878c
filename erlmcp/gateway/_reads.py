"""Reads that may be answered from what is kept, or together with others that ask the same now."""

from collections.abc import Callable
from typing import Any

from erlmcp.gateway._calls import Calls
from erlmcp.gateway._names import Naming
from erlmcp.gateway._rewriting import own_params
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
        if not sharing.keeps(request):
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

        def received(raw: Any, stamp: int = sharing.stamp) -> None:
            sharing.keep(context, method, key, raw, stamp)

        if not sharing.joins(request):
            return await self._calls.dispatch(request, received=received)
        return await sharing.coalesce(
            context,
            method,
            key,
            lambda part: self._calls.dispatch(request, received=received, asks=part),
        )
