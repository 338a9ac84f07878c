"""Bytes into messages: one msgspec decode, and the proof by counting that no limit is passed and no key repeated."""

from typing import Any, Generic, TypeVar

import msgspec
from msgspec import UNSET, Raw, UnsetType

from erlmcp.jsonrpc._diagnosis import diagnose, is_array, not_utf8, refuse_excess, too_deep
from erlmcp.jsonrpc._errors import INVALID_REQUEST, MalformedMessage, message_too_large
from erlmcp.jsonrpc._limits import Limits
from erlmcp.jsonrpc._message import Message
from erlmcp.jsonrpc._scan import depth_of, excess

P = TypeVar("P")

_COUNTED = (
    64 * 1024
)  # payloads up to this size are parsed to count their keys; for larger ones one scan is cheaper
_TINY = 64  # payloads up to this size are counted sooner than looked up
_REMEMBERED = 1024  # the largest payload that is remembered as proved: a client's _meta seldom changes
_MEMORY = 512  # how many are
_METHODS = 64  # methods whose usual parameters are remembered
_decode_entries = msgspec.json.Decoder(list[Raw]).decode
_decode_any = msgspec.json.Decoder().decode
_encode_any = msgspec.json.Encoder().encode


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

    __slots__ = ("_countable", "_decode", "_limits", "_proved", "_room", "_shapes", "_small", "_tiny")

    def __init__(self, params_type: type[P], limits: Limits) -> None:
        self._countable = () if params_type is Raw else _countable_fields(params_type)
        generic: Any = Message
        self._decode = msgspec.json.Decoder[Message[P]](generic[params_type]).decode
        self._limits = limits
        self._room = limits.depth - 2  # a payload lies in the document, and mostly in the parameters
        self._tiny = min(_TINY, 2 * self._room)
        self._small = min(limits.size, limits.string, limits.keys)  # no larger document can pass these three
        self._shapes: dict[str | UnsetType, tuple[str, ...]] = {}
        self._proved: dict[bytes, int] = {}

    def decode(self, data: bytes) -> Message[P]:
        """Decode one document.

        Raises:
            MalformedMessage: with code, sentence, and the id to answer with where it could be read.
        """
        if len(data) > self._small or not data.isascii():
            self._admit(data)
        try:
            message: Message[P] = self._decode(data)
        except (msgspec.DecodeError, RecursionError) as error:
            return self._rescue(data, error)
        if message.method is UNSET:
            # The usual response: its result accounts for every colon but those of its three members.
            result = message.result
            if (
                type(result) is Raw
                and message.id is not UNSET
                and message.error is UNSET
                and message.params is UNSET
                and len(data) <= self._small
                and self._colons_of(bytes(result)) == data.count(b":") - 3
            ):
                return message
            self._examine(data, message)
            return message
        # The usual request: what its method had last time accounts for every colon. All else is examined.
        shape = self._shapes.get(message.method)
        if shape is not None and message.id is not UNSET and len(data) <= self._small:
            params = message.params
            rest = data.count(b":") - 4
            for name in shape:
                value = getattr(params, name, UNSET)
                kind = type(value)
                if kind is Raw:
                    colons = self._colons_of(bytes(value))  # type: ignore[arg-type]
                    if colons < 0:
                        break
                    rest -= 1 + colons
                elif kind is str or kind is int:
                    rest -= 1
            else:
                if params is not UNSET and (rest <= 0 or rest <= _string_colons(data, params, shape)):
                    return message
        self._examine(data, message)
        return message

    def decode_batch(self, data: bytes) -> list[Message[P] | MalformedMessage]:
        """Decode an array of messages, as revision 2025-03-26 of MCP has it; `decode` refuses arrays.

        The limits are those of the whole document. An array that is no JSON, over a limit, or with an object that has
        a key twice is refused as a whole; so is an empty one (JSON-RPC 2.0, section 6).

        Returns:
            What became of each message in order: the message, or why it is none, with the id to answer with.

        Raises:
            MalformedMessage: the one answer to all of it; it has no id.
        """
        self._admit(data)
        if not is_array(data):
            raise MalformedMessage(INVALID_REQUEST, "a batch must be an array of messages")
        try:
            found = diagnose(data, self._limits, None)
        except RecursionError:
            found = too_deep(self._limits)
        if isinstance(found, MalformedMessage) and not found.batch:
            raise found
        entries = _decode_entries(data)
        if not 1 <= len(entries) <= self._limits.batch:
            sentence = f"a batch has 1 to {self._limits.batch} messages, not {len(entries)}"
            raise MalformedMessage(INVALID_REQUEST, sentence, batch=True)
        decoded: list[Message[P] | MalformedMessage] = []
        for entry in entries:
            try:
                decoded.append(self.decode(bytes(entry)))
            except MalformedMessage as bad:
                decoded.append(bad)
        return decoded

    def _admit(self, data: bytes) -> None:
        """Hold the limit of size, and UTF-8, of which msgspec does not look at what it skips."""
        if len(data) > self._limits.size:
            raise message_too_large(len(data), self._limits.size)
        try:
            data.decode()
        except UnicodeDecodeError as error:
            raise not_utf8(error) from None

    def _rescue(self, data: bytes, error: Exception | None) -> Message[P]:
        """Say what is wrong; or give the one message that the type cannot hold, an error response with a null id."""
        try:
            answer = diagnose(data, self._limits, error)
        except RecursionError:
            answer = too_deep(self._limits)
        if isinstance(answer, MalformedMessage):
            raise answer from None
        return Message("2.0", error=answer)

    def _examine(self, data: bytes, message: Message[P]) -> None:
        """Settle a decoded message of any kind: by its members, by counting, or by looking exactly."""
        if message.method is UNSET or message.result is not UNSET or message.error is not UNSET:
            good = _is_whole_response(message)
        else:
            params: Any = message.params
            good = type(params) is not Raw or bytes(params)[:1] == b"{"
        if not good:
            self._rescue(data, None)
        if self._proves(data, message) or (len(data) <= self._small and self._counted(data) >= 0):
            return
        try:
            found = excess(data, self._limits)
            if found is not None:
                raise refuse_excess(data, found)
        except RecursionError:
            raise too_deep(self._limits) from None

    def _proves(self, data: bytes, message: Message[P]) -> bool:
        """Whether counting proves that the document keeps the limits and has no key twice.

        Each member found accounts for one colon, a raw payload for its own. One left over may belong to an unknown
        key, to a repeated key, or stand in a string.
        """
        rest = data.count(b":")
        if rest > self._limits.keys or len(data) > self._limits.string:
            return False
        rest -= 1 if message.id is UNSET else 2
        names: tuple[str, ...] = ()
        values: list[Any]
        if message.method is UNSET:
            values = [message.error if message.result is UNSET else message.result]
            rest -= 1
        elif message.params is UNSET:
            values = []
            rest -= 1
        elif type(message.params) is Raw:
            values = [message.params]
            rest -= 2
        else:
            names = tuple(name for name in self._countable if getattr(message.params, name) is not UNSET)
            values = [getattr(message.params, name) for name in names]
            rest -= 2 + len(names)
        for value in values:
            kind = type(value)
            if kind is Raw:
                colons = self._colons_of(bytes(value))
                if colons < 0:
                    return False
                rest -= colons
            elif kind is not str and kind is not int:
                return False
        if rest > 0 and (not names or rest > _string_colons(data, message.params, names)):
            return False
        if names and message.id is not UNSET:
            if len(self._shapes) >= _METHODS:
                self._shapes.clear()
            self._shapes[message.method] = names
        return True

    def _colons_of(self, payload: bytes) -> int:
        """The colons of a payload that is proved to be good; -1 if it is not."""
        size = len(payload)
        if size <= self._tiny:
            colons = payload.count(b":")
            return colons if colons < 2 else self._counted(payload)
        if size > _REMEMBERED:
            return self._counted(payload)
        known = self._proved.get(payload)
        if known is None:
            known = self._counted(payload)
            if known > 1:
                if len(self._proved) >= _MEMORY:
                    self._proved.clear()
                self._proved[payload] = known
        return known

    def _counted(self, text: bytes) -> int:
        """The colons of a JSON text, if counting proves that it is flat enough and has no key twice; else -1.

        A repeated key leaves its object when parsed, and takes its colon along: so once parsed and written again, the
        text has as many colons as before only if no key was repeated. No escape may hide a colon from the count.
        """
        room = self._room
        if len(text) > 2 * room and text.count(b"{") + text.count(b"[") > room and depth_of(text) > room:
            return -1
        colons = text.count(b":")
        if colons < 2:
            return colons
        if len(text) > _COUNTED or b"\\u003" in text:
            return -1
        try:
            value = _decode_any(text)
            if (type(value) is dict and len(value) == colons) or _encode_any(value).count(b":") == colons:
                return colons
        except (
            msgspec.ValidationError,
            RecursionError,
        ):  # a number out of range: no reason to refuse it here
            return -1
        return -1


def _countable_fields(params_type: Any) -> tuple[str, ...]:
    """The attributes that tell whether the document had their member."""
    if not (isinstance(params_type, type) and issubclass(params_type, msgspec.Struct)):
        raise TypeError(f"params_type is {params_type!r}; it must be a msgspec Struct, or msgspec.Raw")
    if params_type.__struct_config__.array_like:
        raise TypeError(
            f"params_type {params_type.__name__} is encoded as an array; parameters have names in MCP"
        )
    return tuple(
        field.name
        for field in msgspec.structs.fields(params_type)
        if field.default is UNSET
        or (field.default is msgspec.NODEFAULT and field.default_factory is msgspec.NODEFAULT)
    )


def _is_whole_response(message: Message[Any]) -> bool:
    if message.method is not UNSET or message.params is not UNSET:
        return False
    if message.error is UNSET:
        return message.result is not UNSET and message.id is not UNSET
    return message.result is UNSET


def _string_colons(data: bytes, params: Any, names: tuple[str, ...]) -> int:
    """The colons inside the decoded strings, if none of them can be an escape."""
    if b"\\u003" in data:
        return 0
    values = [getattr(params, name) for name in names]
    return sum(value.count(":") for value in values if type(value) is str)
