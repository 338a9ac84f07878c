"""Bytes into messages: one msgspec decode, and the proof by counting that no limit is passed and no key repeated."""

from typing import Any, Generic, TypeVar

import msgspec
from msgspec import UNSET, Raw
from msgspec.structs import astuple

from erlmcp.jsonrpc._diagnosis import diagnose, not_utf8, refuse_excess, too_deep
from erlmcp.jsonrpc._errors import MalformedMessage, message_too_large
from erlmcp.jsonrpc._limits import Limits
from erlmcp.jsonrpc._message import Message
from erlmcp.jsonrpc._scan import accounted_colons, excess

P = TypeVar("P")

_COUNTED = (
    64 * 1024
)  # payloads up to this size are parsed to count their keys; for larger ones one scan is cheaper
_REMEMBERED = 1024  # the largest payload that is remembered as proved: a client's _meta seldom changes
_MEMORY = 512  # how many are
_decode_any = msgspec.json.Decoder().decode


class Codec(Generic[P]):
    """Decodes documents into `Message` of one type of parameters.

    Every acceptable document is decoded in one pass, its `msgspec.Raw` parts untouched. What msgspec does not look at
    (UTF-8 in what it skips, nesting, repeated keys, of which it keeps the last) is settled by counting: each key has
    its colon, so a document with no more colons than were accounted for has no key twice. A scan of the bytes follows
    only where counting does not settle it; the answer never depends on which of the two gave it.

    Args:
        params_type: a msgspec Struct with one attribute for each known parameter, each with the default UNSET, or
            `msgspec.Raw` to leave the parameters unparsed.
        limits: the bounds of one document.

    Raises:
        TypeError: `params_type` is something else, or a struct that is encoded as an array.
    """

    __slots__ = ("_decode", "_is_struct", "_limits", "_presumed", "_proved", "_room")

    def __init__(self, params_type: type[P], limits: Limits) -> None:
        self._is_struct = params_type is not Raw
        self._presumed = _presumed_fields(params_type) if self._is_struct else 0
        generic: Any = Message
        self._decode = msgspec.json.Decoder[Message[P]](generic[params_type]).decode
        self._limits = limits
        self._room = limits.depth - 2  # a payload lies in the document, and mostly in the parameters
        self._proved: dict[bytes, int] = {}

    def decode(self, data: bytes) -> Message[P]:
        """Decode one document.

        Raises:
            MalformedMessage: with code, sentence, and the id to answer with where it could be read.
        """
        if len(data) > self._limits.size:
            raise message_too_large(len(data), self._limits.size)
        if not data.isascii():
            try:
                data.decode()
            except UnicodeDecodeError as error:
                raise not_utf8(error) from None
        try:
            message: Message[P] = self._decode(data)
        except (msgspec.DecodeError, RecursionError) as error:
            return self._rescue(data, error)
        if message.method is UNSET or message.result is not UNSET or message.error is not UNSET:
            if not _is_whole_response(message):
                return self._rescue(data, None)
        elif not self._is_struct and not _is_object(message.params):
            return self._rescue(data, None)
        if not self._proves(data, message):
            self._scan(data)
        return message

    def _rescue(self, data: bytes, error: Exception | None) -> Message[P]:
        """Say what is wrong; or give the one message that the type cannot hold, an error response with a null id."""
        try:
            answer = diagnose(data, self._limits, error)
        except RecursionError:
            answer = too_deep(self._limits)
        if isinstance(answer, MalformedMessage):
            raise answer from None
        return Message("2.0", error=answer)

    def _scan(self, data: bytes) -> None:
        """Look exactly at a whole message that counting did not settle."""
        try:
            found = excess(data, self._limits)
            if found is not None:
                raise refuse_excess(data, found)
        except RecursionError:
            raise too_deep(self._limits) from None

    def _proves(self, data: bytes, message: Message[P]) -> bool:
        """Whether counting proves that the document keeps the limits and has no key twice."""
        rest = data.count(b":")
        if rest > self._limits.keys or len(data) > self._limits.string:
            return False
        # Each member found accounts for one colon, a raw payload for its own. One left over may be an unknown key,
        # a repeated key, or stand in a string.
        rest -= 1 if message.id is UNSET else 2
        present: list[Any]
        if message.method is UNSET:
            present = [message.error if message.result is UNSET else message.result]
            rest -= 1
        elif message.params is UNSET:
            return rest <= 1
        elif self._is_struct:
            # What is falsy is not counted, so is at worst a reason to look.
            present = list(filter(None, astuple(message.params)))  # type: ignore[arg-type]
            rest -= 2 + len(present) - self._presumed
        else:
            present = [message.params]
            rest -= 2
        for value in present:
            kind = type(value)
            if kind is Raw:
                colons = self._colons_of(bytes(value))
                if colons < 0:
                    return False
                rest -= colons
            elif kind is not str and kind is not int:
                return False
        return rest <= 0 or (b"\\u003" not in data and rest <= _colons_in(present) + _colons_in([message.id]))

    def _colons_of(self, payload: bytes) -> int:
        """The colons of a payload that is proved to be good; -1 if it is not."""
        size = len(payload)
        if size <= _REMEMBERED:
            known = self._proved.get(payload)
            if known is not None:
                return known
        colons = payload.count(b":")
        room = self._room
        if size > 2 * room and payload.count(b"{") + payload.count(b"[") > room:
            return -1
        if colons < 2:
            return colons
        if size > _COUNTED or b"\\u003" in payload:
            return -1
        try:
            value = _decode_any(payload)
        except (
            msgspec.ValidationError,
            RecursionError,
        ):  # a number out of range is no reason to refuse it here
            return -1
        if type(value) is dict and len(value) == colons:
            return colons
        if accounted_colons(value) != colons:
            return -1
        if size <= _REMEMBERED:
            if len(self._proved) >= _MEMORY:
                self._proved.clear()
            self._proved[payload] = colons
        return colons


def _presumed_fields(params_type: Any) -> int:
    """How many fields have a default that looks as if the document had them."""
    if not (isinstance(params_type, type) and issubclass(params_type, msgspec.Struct)):
        raise TypeError(f"params_type is {params_type!r}; it must be a msgspec Struct, or msgspec.Raw")
    if params_type.__struct_config__.array_like:
        raise TypeError(
            f"params_type {params_type.__name__} is encoded as an array; parameters have names in MCP"
        )
    return sum(
        field.default_factory is not msgspec.NODEFAULT
        or (field.default is not msgspec.NODEFAULT and bool(field.default))
        for field in msgspec.structs.fields(params_type)
    )


def _is_whole_response(message: Message[Any]) -> bool:
    if message.method is not UNSET or message.params is not UNSET:
        return False
    if message.error is UNSET:
        return message.result is not UNSET and message.id is not UNSET
    return message.result is UNSET


def _is_object(params: Any) -> bool:
    return params is UNSET or bytes(params)[:1] == b"{"


def _colons_in(values: list[Any]) -> int:
    return sum(value.count(":") for value in values if type(value) is str)
