"""The entries of an upstream's lists as 2026-07-28 has them, so that one pass tells whether clients can read one.

What the schema does not name passes unseen; what older revisions lack may be absent.
"""

from typing import Annotated, Final, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType, field

Name = Annotated[str, Meta(min_length=1, max_length=1024)]
Uri = Annotated[str, Meta(max_length=4096)]


class _Icon(Struct, rename="camel"):
    src: str
    mime_type: str | UnsetType = UNSET
    sizes: list[str] | UnsetType = UNSET
    theme: Literal["dark", "light"] | UnsetType = UNSET


class _Entry(Struct, rename="camel"):
    title: str | UnsetType = UNSET
    description: str | UnsetType = UNSET
    icons: list[_Icon] | UnsetType = UNSET
    meta: dict[str, Raw] | UnsetType = field(name="_meta", default=UNSET)


class _Hints(Struct, rename="camel"):
    title: str | UnsetType = UNSET
    read_only_hint: bool | UnsetType = UNSET
    destructive_hint: bool | UnsetType = UNSET
    idempotent_hint: bool | UnsetType = UNSET
    open_world_hint: bool | UnsetType = UNSET


class _Annotations(Struct, rename="camel"):
    audience: list[Literal["user", "assistant"]] | UnsetType = UNSET
    last_modified: str | UnsetType = UNSET
    priority: Annotated[float, Meta(ge=0, le=1)] | UnsetType = UNSET


class ToolEntry(_Entry, kw_only=True):
    """A ``Tool``; its schemas taken apart no further than their keywords."""

    name: Name
    annotations: _Hints | UnsetType = UNSET
    input_schema: dict[str, Raw] | UnsetType = UNSET
    output_schema: dict[str, Raw] | UnsetType = UNSET


class _Argument(Struct):
    name: str
    title: str | UnsetType = UNSET
    description: str | UnsetType = UNSET
    required: bool = False


class PromptEntry(_Entry, kw_only=True):
    """A ``Prompt``."""

    name: Name
    arguments: list[_Argument] = []


class ResourceEntry(_Entry, kw_only=True):
    """A ``Resource``."""

    uri: Uri
    name: str | UnsetType = UNSET
    mime_type: str | UnsetType = UNSET
    size: int | UnsetType = UNSET
    annotations: _Annotations | UnsetType = UNSET


class TemplateEntry(_Entry, kw_only=True):
    """A ``ResourceTemplate``."""

    uri_template: Uri
    name: str | UnsetType = UNSET
    mime_type: str | UnsetType = UNSET
    annotations: _Annotations | UnsetType = UNSET


READ_TOOL: Final = msgspec.json.Decoder(ToolEntry).decode
READ_PROMPT: Final = msgspec.json.Decoder(PromptEntry).decode
READ_RESOURCE: Final = msgspec.json.Decoder(ResourceEntry).decode
READ_TEMPLATE: Final = msgspec.json.Decoder(TemplateEntry).decode
