"""What a client may ask of a server: in revision 2026-07-28, and in those that begin with ``initialize``."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal

import msgspec


class Method(msgspec.Struct, frozen=True):
    """One request method.

    Attributes:
        name: as on the wire.
        capability: the server capability that it belongs to, None if it is always there. A method whose
            capability is not declared is answered with -32601.
        name_field: the parameter that says what the request is about, which HTTP mirrors into ``Mcp-Name``.
        may_ask: whether the answer may be ``input_required`` (basic/patterns/mrtr, "Supported Requests").
        cacheable: whether the result carries ``ttlMs`` and ``cacheScope``.
        required: the parameters that a request of it must have, beyond ``_meta``.
    """

    name: str
    capability: str | None = None
    name_field: Literal["name", "uri"] | None = None
    may_ask: bool = False
    cacheable: bool = False
    required: tuple[str, ...] = ()


METHODS: Final[Mapping[str, Method]] = MappingProxyType(
    {
        method.name: method
        for method in (
            Method("server/discover", cacheable=True),
            Method("tools/list", "tools", cacheable=True),
            Method("tools/call", "tools", "name", may_ask=True, required=("name",)),
            Method("resources/list", "resources", cacheable=True),
            Method("resources/templates/list", "resources", cacheable=True),
            Method("resources/read", "resources", "uri", may_ask=True, cacheable=True, required=("uri",)),
            Method("prompts/list", "prompts", cacheable=True),
            Method("prompts/get", "prompts", "name", may_ask=True, required=("name",)),
            Method("completion/complete", "completions", required=("ref", "argument")),
            Method("subscriptions/listen", required=("notifications",)),
        )
    }
)
"""Every request of the revision, by name."""

_SHARED = frozenset(METHODS) - {"server/discover", "subscriptions/listen"}

HANDSHAKE_METHODS: Final[Mapping[str, Method]] = MappingProxyType(
    {
        method.name: method
        for method in (
            Method("initialize", required=("protocol_version", "capabilities", "client_info")),
            Method("ping"),
            Method("logging/setLevel", "logging", required=("level",)),
            Method("resources/subscribe", "resources", "uri", required=("uri",)),
            Method("resources/unsubscribe", "resources", "uri", required=("uri",)),
            *(
                msgspec.structs.replace(method, cacheable=False)
                for method in METHODS.values()
                if method.name in _SHARED
            ),
        )
    }
)
"""The requests of the handshake revisions, by name; all four have the same.

None of their results is cacheable, and `name_field` has no header. ``resources/subscribe`` belongs to the
``subscribe`` part of its capability. The ``tasks/*`` of 2025-11-25 are not offered.
"""
