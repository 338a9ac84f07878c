"""What a backend offers, in the form that lists send and gates use."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from zope.interface import Interface


class IArguments(Interface):
    """A compiled JSON Schema."""

    def problem(value: Any) -> str | None:
        """None if the value is valid, else one sentence that says where and why not."""


class HeaderParameter(msgspec.Struct, frozen=True):
    """A tool parameter that is mirrored into an HTTP header (revision 2026-07-28, x-mcp-header).

    Attributes:
        path: the chain of property names from the root of the arguments.
        header: the full field name in lower case, such as ``b"mcp-param-region"``.
        kind: ``string``, ``integer`` or ``boolean``.
    """

    path: tuple[str, ...]
    header: bytes
    kind: str


class ToolDefinition(msgspec.Struct, frozen=True, kw_only=True):
    """One tool. `wire` is the ``Tool`` object as lists send it, encoded once.

    Attributes:
        input: the compiled ``inputSchema``; None validates nothing (an upstream does it itself).
        output: the compiled ``outputSchema``, if there is one.
        header_parameters: what ``x-mcp-header`` declares.
        read_only, idempotent, replay: what may be run again after a loss.
        timeout: seconds, None for the default.
        interruptible: whether a call that is given up really ends; what runs in a thread does not.
    """

    name: str
    wire: msgspec.Raw
    input: Any = None  # IArguments | None
    output: Any = None  # IArguments | None
    header_parameters: tuple[HeaderParameter, ...] = ()
    read_only: bool = False
    idempotent: bool = False
    replay: bool = False
    timeout: float | None = None
    interruptible: bool = False


class ResourceDefinition(msgspec.Struct, frozen=True, kw_only=True):
    """One resource; `wire` is its ``Resource`` object."""

    uri: str
    wire: msgspec.Raw
    timeout: float | None = None


class TemplateDefinition(msgspec.Struct, frozen=True, kw_only=True):
    """One resource template; `wire` is its ``ResourceTemplate`` object; `match` gives a URI's variables or None."""

    uri_template: str
    wire: msgspec.Raw
    match: Callable[[str], Mapping[str, Any] | None]
    timeout: float | None = None


class PromptDefinition(msgspec.Struct, frozen=True, kw_only=True):
    """One prompt; `wire` is its ``Prompt`` object.

    Attributes:
        arguments: argument name -> whether it is required.
    """

    name: str
    wire: msgspec.Raw
    arguments: Mapping[str, bool]
    timeout: float | None = None
