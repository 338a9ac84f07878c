"""The parameters of all client messages as one typed struct, so that a message is decoded in a single pass.

What a request does with its parameters is decided elsewhere; parts that only a backend reads stay raw bytes.
"""

from typing import Literal

from msgspec import UNSET, Raw, Struct, UnsetType, field


class Reference(Struct, frozen=True):
    """What a completion is for: a prompt by name, or a resource template by URI (server/utilities/completion)."""

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


class SubscriptionFilter(Struct, frozen=True, omit_defaults=True, rename="camel"):
    """What a ``subscriptions/listen`` stream is to carry (basic/patterns/subscriptions, "Notification Filter").

    Encodes to its form on the wire, without the kinds that are not wanted.
    """

    tools_list_changed: bool = False
    prompts_list_changed: bool = False
    resources_list_changed: bool = False
    resource_subscriptions: tuple[str, ...] = ()


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
