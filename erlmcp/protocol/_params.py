"""The parameters of all client messages as one typed struct, so that a single pass decodes a message.

What a request does with its parameters is decided elsewhere; parts that only a backend reads stay raw bytes.
"""

from typing import Literal, TypedDict

from msgspec import UNSET, Raw, Struct, UnsetType, field
from msgspec.structs import fields

from erlmcp.protocol._errors import McpError, invalid_params
from erlmcp.protocol._methods import Method


class Reference(Struct, frozen=True):
    """What a completion is for: a prompt's name or a template's URI (server/utilities/completion)."""

    type: Literal["ref/prompt", "ref/resource"]
    name: str | UnsetType = UNSET
    uri: str | UnsetType = UNSET


class CompletionArgument(Struct, frozen=True):
    """The argument to complete, and what has been typed of it."""

    name: str
    value: str


class CompletionContext(Struct, frozen=True):
    """Arguments that are settled already."""

    arguments: dict[str, str] | UnsetType = UNSET


class SubscriptionFilter(TypedDict, total=False):
    """What a subscription is to carry (basic/patterns/subscriptions, "Notification Filter")."""

    toolsListChanged: bool
    promptsListChanged: bool
    resourcesListChanged: bool
    resourceSubscriptions: list[str]


class Params(Struct, rename="camel"):
    """The parameters of any request or notification that a client sends; UNSET where absent.

    `input_responses`, `arguments`, `meta`, `capabilities` and `client_info` stay raw bytes;
    `msgspec.json.decode` reads them where they are needed. An argument that is ``null`` is the raw bytes
    ``null``.
    """

    meta: Raw | UnsetType = field(name="_meta", default=UNSET)
    name: str | UnsetType = UNSET
    uri: str | UnsetType = UNSET
    arguments: Raw | UnsetType = UNSET
    cursor: str | UnsetType = UNSET
    input_responses: Raw | UnsetType = UNSET
    request_state: str | UnsetType = UNSET
    ref: Reference | UnsetType = UNSET
    argument: CompletionArgument | UnsetType = UNSET
    context: CompletionContext | UnsetType = UNSET
    notifications: SubscriptionFilter | UnsetType = UNSET
    request_id: int | str | UnsetType = UNSET
    reason: str | UnsetType = UNSET
    protocol_version: str | UnsetType = UNSET
    capabilities: Raw | UnsetType = UNSET
    client_info: Raw | UnsetType = UNSET
    level: str | UnsetType = UNSET


def check_params(method: Method, params: Params | UnsetType) -> McpError | None:
    """Whether the parameters that the method cannot do without are there.

    Returns:
        None if they are, else the -32602 that names the first missing one.
    """
    for name in method.required:
        if params is UNSET or getattr(params, name) is UNSET:
            return invalid_params(f"{method.name} needs params.{_WIRE_NAMES[name]}")
    return None


_WIRE_NAMES = {field.name: field.encode_name for field in fields(Params)}
