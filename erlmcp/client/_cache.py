"""Answers kept for as long as their server allows (2026-07-28, server/utilities/caching)."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import msgspec
from msgspec import Raw, Struct

_Key = tuple[str | None, str, str, bytes]

_LISTS: Final = {
    "notifications/tools/list_changed": ("tools/list",),
    "notifications/prompts/list_changed": ("prompts/list",),
    "notifications/resources/list_changed": ("resources/list", "resources/templates/list"),
}


class _Hints(Struct, rename="camel"):
    ttl_ms: float = 0
    cache_scope: str = "private"


_read_hints: Final = msgspec.json.Decoder(_Hints).decode


class Cache:
    """Results by server, method and parameters. May be shared by the clients of several principals.

    What a server calls ``public`` is found by all of them; everything else by the principal alone whose it is.

    Args:
        seconds: the time.
        entries: the most results that are kept; the one longest unused goes.
        memory: the most bytes that all of them have together.
    """

    def __init__(self, seconds: Callable[[], float], entries: int = 1024, memory: int = 16 * 2**20) -> None:
        self._seconds = seconds
        self._most = entries
        self._room = memory
        self._kept: OrderedDict[_Key, tuple[Raw, float]] = OrderedDict()
        self._used = 0

    def find(self, principal: str, peer: str, method: str, params: bytes) -> Raw | None:
        """A result that is still fresh; None if there is none."""
        for whose in (principal, None):
            key = (whose, peer, method, params)
            found = self._kept.get(key)
            if found is None:
                continue
            if self._seconds() < found[1]:
                self._kept.move_to_end(key)
                return found[0]
            self._drop(key)
        return None

    def keep(self, principal: str, peer: str, method: str, params: bytes, result: Raw) -> None:
        """Keep a result for as long as it says itself; one that says nothing is not kept."""
        try:
            hints = _read_hints(result)
        except msgspec.DecodeError:
            return
        size = len(bytes(result)) + len(params)
        if not hints.ttl_ms > 0 or size > self._room // 4:
            return
        key = (None if hints.cache_scope == "public" else principal, peer, method, params)
        if key in self._kept:
            self._drop(key)
        # The bytes of the message would be kept alive by a part of them.
        self._kept[key] = (Raw(bytes(result)), self._seconds() + hints.ttl_ms / 1000)
        self._used += size
        while len(self._kept) > self._most or self._used > self._room:
            self._drop(next(iter(self._kept)))

    def changed(self, peer: str, notification: str, uri: str | None = None) -> None:
        """Forget what a notification says has changed; with ``notifications/resources/updated``, of one `uri`."""
        methods = _LISTS.get(notification, ())
        needle = b"" if uri is None else msgspec.json.encode(uri)
        for key in list(self._kept):
            _, whose, method, params = key
            if whose == peer and (
                method in methods or (uri is not None and method == "resources/read" and needle in params)
            ):
                self._drop(key)

    def forget(self, peer: str) -> None:
        """Forget all that one server said."""
        for key in [key for key in self._kept if key[1] == peer]:
            self._drop(key)

    def _drop(self, key: _Key) -> None:
        result, _ = self._kept.pop(key)
        self._used -= len(bytes(result)) + len(key[3])
