"""What tools, prompts and resources may return besides plain values (2026-07-28, server/tools, Tool Result)."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from erlmcp.catalog._metadata import check_annotations, icon_list

Json = dict[str, Any]


class Content:
    """A content block. `block` is the object that goes on the wire."""

    __slots__ = ("annotations", "meta")

    def __init__(self, annotations: Mapping[str, Any] | None, meta: Mapping[str, Any] | None) -> None:
        self.annotations = check_annotations(annotations, type(self).__name__)
        self.meta = meta

    def block(self) -> Json:
        """The block as a JSON object."""
        raise NotImplementedError

    def _finished(self, block: Json) -> Json:
        if self.annotations:
            block["annotations"] = self.annotations
        if self.meta:
            block["_meta"] = dict(self.meta)
        return block


class Text(Content):
    """Text, where annotations are wanted; a plain ``str`` does otherwise.

    Args:
        text: the text.
        annotations: ``audience``, ``priority``, ``lastModified``.
        meta: goes into ``_meta``.
    """

    __slots__ = ("text",)

    def __init__(
        self,
        text: str,
        *,
        annotations: Mapping[str, Any] | None = None,
        meta: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(annotations, meta)
        self.text = sendable(text)

    def block(self) -> Json:
        """A text block."""
        return self._finished({"type": "text", "text": self.text})


class _Media(Content):
    __slots__ = ("data", "mime_type")
    _type = ""

    def __init__(
        self,
        data: bytes | str,
        mime_type: str,
        *,
        annotations: Mapping[str, Any] | None = None,
        meta: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(annotations, meta)
        self.data = encoded(data)
        self.mime_type = mime_type

    def block(self) -> Json:
        """A media block."""
        return self._finished({"type": self._type, "data": self.data, "mimeType": self.mime_type})


class Image(_Media):
    """An image.

    Args:
        data: its bytes, or a string that is Base64 already.
        mime_type: such as ``image/png``.
        annotations: ``audience``, ``priority``, ``lastModified``.
        meta: goes into ``_meta``.
    """

    __slots__ = ()
    _type = "image"

    def __init__(
        self,
        data: bytes | str,
        mime_type: str = "image/png",
        *,
        annotations: Mapping[str, Any] | None = None,
        meta: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(data, mime_type, annotations=annotations, meta=meta)


class Audio(_Media):
    """Sound.

    Args:
        data: its bytes, or a string that is Base64 already.
        mime_type: such as ``audio/wav``.
        annotations: ``audience``, ``priority``, ``lastModified``.
        meta: goes into ``_meta``.
    """

    __slots__ = ()
    _type = "audio"

    def __init__(
        self,
        data: bytes | str,
        mime_type: str = "audio/wav",
        *,
        annotations: Mapping[str, Any] | None = None,
        meta: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(data, mime_type, annotations=annotations, meta=meta)


class Contents:
    """What a resource holds, or one part of it.

    Args:
        content: text, or bytes that travel as Base64.
        uri: the part's own URI; that which was read if None.
        mime_type: the resource's own if None.
        meta: goes into ``_meta``.
    """

    __slots__ = ("content", "meta", "mime_type", "uri")

    def __init__(
        self,
        content: str | bytes,
        *,
        uri: str | None = None,
        mime_type: str | None = None,
        meta: Mapping[str, Any] | None = None,
    ) -> None:
        if not isinstance(content, str | bytes):
            raise TypeError(f"the contents of a resource are str or bytes, not {type(content).__name__}")
        self.content = sendable(content) if isinstance(content, str) else content
        self.uri = uri
        self.mime_type = mime_type
        self.meta = meta

    def wire(self, uri: str, mime_type: str | None) -> Json:
        """The object on the wire, with what the resource itself says where this part says nothing."""
        body: Json = {"uri": self.uri or uri}
        if (kind := self.mime_type or mime_type) is not None:
            body["mimeType"] = kind
        if isinstance(self.content, str):
            body["text"] = self.content
        else:
            body["blob"] = encoded(self.content)
        if self.meta:
            body["_meta"] = dict(self.meta)
        return body


class EmbeddedResource(Content):
    """A resource put into a result or a message.

    Args:
        uri: its URI.
        content: text or bytes.
        mime_type: its type.
        annotations: ``audience``, ``priority``, ``lastModified``.
        meta: goes into ``_meta``.
    """

    __slots__ = ("contents", "uri")

    def __init__(
        self,
        uri: str,
        content: str | bytes,
        mime_type: str | None = None,
        *,
        annotations: Mapping[str, Any] | None = None,
        meta: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(annotations, meta)
        self.uri = uri
        self.contents = Contents(content, mime_type=mime_type)

    def block(self) -> Json:
        """A resource block."""
        return self._finished({"type": "resource", "resource": self.contents.wire(self.uri, None)})


class ResourceLink(Content):
    """A link to a resource that the client may read.

    Args:
        uri: its URI.
        name: its name.
        title: a name to display.
        description: what it is.
        mime_type: its type.
        size: bytes, if known.
        icons: as in `Provider.tool`.
        annotations: ``audience``, ``priority``, ``lastModified``.
        meta: goes into ``_meta``.
    """

    __slots__ = ("fields",)

    def __init__(
        self,
        uri: str,
        name: str,
        *,
        title: str | None = None,
        description: str | None = None,
        mime_type: str | None = None,
        size: int | None = None,
        icons: Sequence[Any] = (),
        annotations: Mapping[str, Any] | None = None,
        meta: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(annotations, meta)
        found = {
            "uri": uri,
            "name": name,
            "title": title,
            "description": description,
            "mimeType": mime_type,
            "size": size,
            "icons": icon_list(icons, f"link {uri!r}") or None,
        }
        self.fields = {key: value for key, value in found.items() if value is not None}

    def block(self) -> Json:
        """A link block."""
        return self._finished({"type": "resource_link", **self.fields})


class Block(Content):
    """A content block written out by its author, sent as it is: for kinds that have no class here.

    Args:
        fields: the block; it has a ``type``.
    """

    __slots__ = ("fields",)

    def __init__(self, fields: Mapping[str, Any]) -> None:
        super().__init__(None, None)
        if not isinstance(fields.get("type"), str):
            raise ValueError(  # noqa: TRY004 - the dict is right, its content is not
                'a content block has a "type", such as "text"'
            )
        self.fields = dict(fields)

    def block(self) -> Json:
        """The block."""
        return dict(self.fields)


class Message:
    """One message of a prompt, or one to sample from.

    Args:
        content: text or a content block.
        role: ``user`` or ``assistant``.
    """

    __slots__ = ("content", "role")

    def __init__(self, content: str | Content, role: Literal["user", "assistant"] = "user") -> None:
        if role not in ("user", "assistant"):
            raise ValueError(f"the role of a message is 'user' or 'assistant', not {role!r}")
        if not isinstance(content, str | Content):
            raise TypeError(
                f"the content of a message is text or a content block, not {type(content).__name__}"
            )
        self.content = content
        self.role = role

    def wire(self) -> Json:
        """The ``PromptMessage`` object."""
        return {"role": self.role, "content": block_of(self.content)}


class ToolResult(msgspec.Struct, kw_only=True):
    """A tool's whole result, for authors who want to say each part.

    Attributes:
        content: what the model reads: text and content blocks.
        structured: the JSON value of ``structuredContent``; UNSET for none.
        is_error: whether it is an error that the model shall see.
        meta: goes into ``_meta``.
    """

    content: Sequence[str | Content] = ()
    structured: Any = msgspec.UNSET
    is_error: bool = False
    meta: Mapping[str, Any] | None = None


def block_of(value: str | Content) -> Json:
    """The block of a text or a content object."""
    return {"type": "text", "text": sendable(value)} if isinstance(value, str) else value.block()


def encoded(data: bytes | str) -> str:
    """Base64 of bytes; a string is Base64 already."""
    return data if isinstance(data, str) else base64.b64encode(data).decode("ascii")


def sendable(text: str) -> str:
    """The text, if UTF-8 can carry it; a lone surrogate is a ValueError here, and not when the answer is sent."""
    if not text.isascii():
        text.encode()
    return text
