"""What a provider of ours tells the daemon from a process of its own, beside what any server tells its clients.

In the `_meta` of each definition, under a key of this project's; clients never see it.
"""

from typing import Any, Final, TypeVar

import msgspec
from msgspec import Raw, Struct, structs

from erlmcp.interfaces import (
    Definitions,
    PromptDefinition,
    ResourceDefinition,
    TemplateDefinition,
    ToolDefinition,
)

OWN_KEY: Final = "io.erlmcp/own"
KINDS: Final = ("tools", "prompts", "resources", "templates")

Definition = TypeVar("Definition", ToolDefinition, PromptDefinition, ResourceDefinition, TemplateDefinition)


class Own(Struct, frozen=True, omit_defaults=True):
    """What is not on the wire between strangers.

    Attributes:
        timeout: seconds that a call may take; None for the daemon's default.
        interruptible: whether a call that is given up really ends.
        replay: whether a call may be made again after a loss.
    """

    timeout: float | None = None
    interruptible: bool = False
    replay: bool = False


_members: Final = msgspec.json.Decoder(dict[str, Raw]).decode
_own: Final = msgspec.json.Decoder(Own).decode
_encode: Final = msgspec.json.encode


def tell(definitions: Definitions) -> Definitions:
    """The definitions as the process shows them to the daemon."""
    return _each(definitions, _told)


def heard(definitions: Definitions) -> Definitions:
    """The definitions that such a process shows, as they are in the daemon."""
    return _each(definitions, _heard)


def within(definitions: Definitions, timeout: float) -> Definitions:
    """The definitions of an upstream whose calls may take so many seconds, if they do not say themselves."""

    def limited(one: Any) -> Any:
        return one if one.timeout is not None else structs.replace(one, timeout=timeout)

    return _each(definitions, limited)


def _each(definitions: Definitions, change: Any) -> Definitions:
    tables = {kind: {name: change(one) for name, one in getattr(definitions, kind).items()} for kind in KINDS}
    return structs.replace(definitions, **tables)


def _told(one: Definition) -> Definition:
    own = Own(
        one.timeout,
        interruptible=getattr(one, "interruptible", False),
        replay=getattr(one, "replay", False),
    )
    if own == Own():
        return one
    members = _members(one.wire)
    meta = _members(members["_meta"]) if "_meta" in members else {}
    wire = _encode({**members, "_meta": {**meta, OWN_KEY: own}})
    return structs.replace(one, wire=Raw(wire))


def _heard(one: Definition) -> Definition:
    if OWN_KEY.encode() not in bytes(one.wire):
        return one
    members = _members(one.wire)
    meta = _members(members.pop("_meta", Raw(b"{}")))
    own = _own(meta.pop(OWN_KEY, Raw(b"{}")))
    if meta:
        members["_meta"] = Raw(_encode(meta))
    changed: dict[str, Any] = {"wire": Raw(_encode(members)), "timeout": own.timeout}
    if isinstance(one, ToolDefinition):
        changed |= {"interruptible": own.interruptible, "replay": own.replay}
    return structs.replace(one, **changed)
