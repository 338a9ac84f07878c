"""What of a `_meta` goes on to the next hop: the keys that are not the protocol's own."""

from collections import OrderedDict
from typing import Any, Final

from msgspec import UNSET, Raw

from erlmcp.gateway._rewriting import carried_meta
from erlmcp.interfaces import Request

_LONGEST: Final = 1024
_MOST: Final = 512


def foreign_meta(request: Request) -> dict[str, Any] | None:
    """The keys of the client's `_meta` that belong to no hop, and its trace."""
    meta = request.params.meta
    found: dict[str, Any] = {}
    if meta is not UNSET and len(meta) > 2:
        found = foreign_keys(meta)
    if request.trace:
        found = {**found, **request.trace}
    return found or None


_remembered: Final[OrderedDict[bytes, dict[str, Any]]] = OrderedDict()


def foreign_keys(meta: Raw) -> dict[str, Any]:
    """The keys of a `_meta` that are not the protocol's own; not to be changed.

    Clients and upstreams say the same with each message, so the last few hundred are remembered.
    """
    text = bytes(meta)
    found = _remembered.get(text)
    if found is None:
        found = {name: Raw(bytes(value)) for name, value in carried_meta(Raw(text)).items()}
        if len(text) <= _LONGEST:
            _remembered[text] = found
            if len(_remembered) > _MOST:
                _remembered.popitem(last=False)
    return found
