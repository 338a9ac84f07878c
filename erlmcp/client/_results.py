"""What servers answer, typed; what the types do not know is kept beside."""

import base64
from collections.abc import Mapping
from typing import Any, ClassVar, Final, TypeVar

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType, field

from erlmcp.protocol import HANDSHAKE_VERSIONS, MODERN

K = TypeVar("K", bound="Kept")

_decode_any: Final = msgspec.json.Decoder().decode


class Kept(Struct, kw_only=True, rename="camel", dict=True):
    """A typed object that knows what it was read from."""

    meta: dict[str, Any] = field(name="_meta", default_factory=dict)

    @property
    def wire(self) -> dict[str, Any]:
        """The object as the server sent it, decoded."""
        source = self.__dict__.get("source", {})
        return source if isinstance(source, dict) else _decode_any(source)

    @property
    def extra(self) -> dict[str, Any]:
        """The members that no attribute stands for."""
        known = {one.encode_name for one in msgspec.structs.fields(self)}
        if isinstance(self, Content):
            known.add("type")
        return {name: value for name, value in self.wire.items() if name not in known}


class Content:
    """A block of content: `TextContent`, `ImageContent`, `AudioContent`, `ResourceLink`, `EmbeddedResource`, or, of
    a type that this version does not know, `UnknownContent`.
    """  # noqa: D205 - the names are the summary

    __slots__ = ()
    type: ClassVar[str]


class TextContent(Kept, Content, kw_only=True):
    """Text."""

    type: ClassVar[str] = "text"
    text: str
    annotations: dict[str, Any] | UnsetType = UNSET


class ImageContent(Kept, Content, kw_only=True):
    """An image; `data` is Base64, `decoded` the bytes."""

    type: ClassVar[str] = "image"
    data: str
    mime_type: str
    annotations: dict[str, Any] | UnsetType = UNSET

    @property
    def decoded(self) -> bytes:
        """The bytes of the image."""
        return base64.b64decode(self.data)


class AudioContent(Kept, Content, kw_only=True):
    """Sound; `data` is Base64, `decoded` the bytes."""

    type: ClassVar[str] = "audio"
    data: str
    mime_type: str
    annotations: dict[str, Any] | UnsetType = UNSET

    @property
    def decoded(self) -> bytes:
        """The bytes of the sound."""
        return base64.b64decode(self.data)


class ResourceContents(Kept, kw_only=True):
    """What a resource holds: `text`, or `blob` in Base64."""

    uri: str
    mime_type: str | UnsetType = UNSET
    text: str | UnsetType = UNSET
    blob: str | UnsetType = UNSET

    @property
    def decoded(self) -> bytes:
        """The bytes, whichever of the two it is."""
        return base64.b64decode(self.blob) if isinstance(self.blob, str) else (self.text or "").encode()


class ResourceLink(Kept, Content, kw_only=True):
    """A resource that can be read."""

    type: ClassVar[str] = "resource_link"
    uri: str
    name: str
    title: str | UnsetType = UNSET
    description: str | UnsetType = UNSET
    mime_type: str | UnsetType = UNSET
    size: int | UnsetType = UNSET
    annotations: dict[str, Any] | UnsetType = UNSET


class EmbeddedResource(Kept, Content, kw_only=True):
    """A resource, contents included."""

    type: ClassVar[str] = "resource"
    resource: ResourceContents
    annotations: dict[str, Any] | UnsetType = UNSET


class UnknownContent(Kept, Content):
    """A block of a type that is not known here: `wire` has all of it."""


_BLOCKS: Final[Mapping[Any, type[Kept]]] = {
    one.type: one for one in (TextContent, ImageContent, AudioContent, ResourceLink, EmbeddedResource)
}


class Tool(Kept, kw_only=True):
    """A tool's definition."""

    name: str
    title: str | UnsetType = UNSET
    description: str | UnsetType = UNSET
    input_schema: dict[str, Any]
    output_schema: Any = UNSET
    annotations: dict[str, Any] = field(default_factory=dict)
    icons: list[dict[str, Any]] = field(default_factory=list)

    @property
    def repeatable(self) -> bool:
        """Whether a call may be repeated, by the tool's own word (``readOnlyHint``, ``idempotentHint``)."""
        return self.annotations.get("readOnlyHint") is True or self.annotations.get("idempotentHint") is True


class Resource(Kept, kw_only=True):
    """A resource's definition."""

    uri: str
    name: str
    title: str | UnsetType = UNSET
    description: str | UnsetType = UNSET
    mime_type: str | UnsetType = UNSET
    size: int | UnsetType = UNSET
    annotations: dict[str, Any] = field(default_factory=dict)
    icons: list[dict[str, Any]] = field(default_factory=list)


class ResourceTemplate(Kept, kw_only=True):
    """A template of resources' URIs (RFC 6570)."""

    uri_template: str
    name: str
    title: str | UnsetType = UNSET
    description: str | UnsetType = UNSET
    mime_type: str | UnsetType = UNSET
    annotations: dict[str, Any] = field(default_factory=dict)
    icons: list[dict[str, Any]] = field(default_factory=list)


class PromptArgument(Kept, kw_only=True):
    """An argument of a prompt."""

    name: str
    title: str | UnsetType = UNSET
    description: str | UnsetType = UNSET
    required: bool = False


class Prompt(Kept, kw_only=True):
    """A prompt's definition."""

    name: str
    title: str | UnsetType = UNSET
    description: str | UnsetType = UNSET
    arguments: list[PromptArgument] = field(default_factory=list)
    icons: list[dict[str, Any]] = field(default_factory=list)


class Result(Kept):
    """What every result has. `result_type` is ``complete``: no other reaches a caller."""

    result_type: str = "complete"


class CallResult(Result):
    """What a tool answered.

    Attributes:
        content: its blocks.
        structured: ``structuredContent``, UNSET if there is none.
        is_error: whether the tool failed.
    """

    content: list[Content] = field(default_factory=list)
    structured: Any = field(name="structuredContent", default=UNSET)
    is_error: bool = False

    @property
    def text(self) -> str:
        """The text blocks, one after the other."""
        return "\n".join(block.text for block in self.content if isinstance(block, TextContent))


class ReadResult(Result, kw_only=True):
    """What a resource holds."""

    contents: list[ResourceContents]
    ttl_ms: float = 0
    cache_scope: str = "private"


class PromptMessage(Kept, kw_only=True):
    """One message of a prompt."""

    role: str
    content: Content


class PromptResult(Result, kw_only=True):
    """A prompt, filled in."""

    messages: list[PromptMessage]
    description: str | UnsetType = UNSET


class Completion(Kept, kw_only=True):
    """Values that complete an argument; `total` and `has_more` where the server says them."""

    values: list[str]
    total: int | UnsetType = UNSET
    has_more: bool = False


class CompletionResult(Result, kw_only=True):
    """What completes an argument."""

    completion: Completion


class ServerInfo(Kept):
    """Who the server says it is: for display, never for decisions."""

    name: str = ""
    version: str = ""
    title: str | UnsetType = UNSET


class Server(Struct, frozen=True, kw_only=True):
    """What is known of a server once it has been met.

    Attributes:
        era: ``modern`` or ``handshake``.
        version: the revision spoken with it.
        capabilities: as it declared them.
        instructions: how it wants to be used; empty for none.
        info: its name and version, by its own word.
    """

    era: str
    version: str
    capabilities: dict[str, Any]
    instructions: str = ""
    info: ServerInfo

    def offers(self, capability: str, part: str = "") -> bool:
        """Whether it declared a capability, or a part of it such as ``resources``, ``subscribe``."""
        declared = self.capabilities.get(capability)
        if not part:
            return declared is not None
        return isinstance(declared, dict) and declared.get(part) not in {None, False}


class DiscoverResult(Result, kw_only=True):
    """The answer to ``server/discover``."""

    supported_versions: list[str]
    capabilities: dict[str, Any]
    instructions: str = ""
    ttl_ms: float = 0
    cache_scope: str = "private"

    @property
    def info(self) -> ServerInfo:
        """Who it says it is."""
        info = self.meta.get("io.modelcontextprotocol/serverInfo")
        return _info(info)

    def server(self) -> Server:
        """What it makes known."""
        return Server(
            era="modern",
            version=MODERN,
            capabilities=self.capabilities,
            instructions=self.instructions,
            info=self.info,
        )


class InitializeResult(Kept, kw_only=True):
    """The answer to ``initialize``."""

    protocol_version: str
    capabilities: dict[str, Any]
    server_info: dict[str, Any] = field(default_factory=dict)
    instructions: str = ""

    def server(self) -> Server:
        """What it makes known.

        Raises:
            ValueError: it speaks a version that no client here does.
        """
        if self.protocol_version not in HANDSHAKE_VERSIONS:
            spoken = ", ".join(HANDSHAKE_VERSIONS)
            raise ValueError(f"it wants to speak version {self.protocol_version!r}; spoken here are {spoken}")
        return Server(
            era="handshake",
            version=self.protocol_version,
            capabilities=self.capabilities,
            instructions=self.instructions,
            info=_info(self.server_info),
        )


class InputRequired(Result):
    """A server that needs input (basic/patterns/mrtr).

    Attributes:
        input_requests: the questions by their keys.
        request_state: what goes back to the server untouched; UNSET if it sent none.
    """

    input_requests: dict[str, dict[str, Any]] = field(default_factory=dict)
    request_state: str | UnsetType = UNSET


class Progress(Struct, frozen=True):
    """How far a call is: `done` of `total` (None if unknown), and what it is doing."""

    done: float
    total: float | None = None
    message: str = ""


class LogMessage(Struct, frozen=True):
    """What a server logs for its client."""

    level: str
    data: Any
    logger: str = ""


class Elicitation(Struct, frozen=True):
    """What a server asks of the user: a form (`schema`) or a visit to a `url`."""

    message: str
    schema: dict[str, Any] | None = None
    url: str | None = None
    elicitation_id: str | None = None


def _info(value: Any) -> ServerInfo:
    """Display only, so what cannot be read is left out rather than refused."""
    try:
        return from_value(ServerInfo, value)
    except msgspec.ValidationError:
        return ServerInfo()


_decoders: Final[dict[type[Any], Any]] = {}


def read(shape: type[K], raw: Raw | bytes) -> K:
    """Read a result, or one entry of a list.

    Raises:
        msgspec.DecodeError: it has another shape; the message says where.
    """
    decode = _decoders.get(shape)
    if decode is None:
        decode = _decoders[shape] = msgspec.json.Decoder(shape, dec_hook=_special).decode
    value: K = decode(raw)
    value.__dict__["source"] = raw
    return value


def from_value(shape: type[K], value: Any) -> K:
    """As `read`, of what is decoded already.

    Raises:
        msgspec.ValidationError: it has another shape.
    """
    typed = msgspec.convert(value, shape, dec_hook=_special)
    typed.__dict__["source"] = value
    return typed


def _special(kind: type[Any], value: Any) -> Any:
    if kind is not Content:
        raise NotImplementedError(kind)
    if not isinstance(value, dict):
        raise ValueError("a block of content is an object")  # noqa: TRY004 - what msgspec makes a ValidationError of
    block = _BLOCKS.get(value.get("type"))
    return from_value(UnknownContent if block is None else block, value)
