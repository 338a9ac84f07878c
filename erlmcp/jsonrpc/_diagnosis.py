"""What is wrong with a document that did not decode, in words: a second, lenient decode, off the hot path.

The order is fixed, so one document has one answer: syntax, limits, repeated keys, the envelope, the parameters.
"""

import contextlib
import re
from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from erlmcp.jsonrpc._errors import INVALID_PARAMS, INVALID_REQUEST, PARSE_ERROR, MalformedMessage
from erlmcp.jsonrpc._limits import Limits
from erlmcp.jsonrpc._message import MAX_ID_LENGTH, Id
from erlmcp.jsonrpc._scan import excess, member_names

_WHITE_SPACE = b" \t\r\n"
_TRUNCATED = "Input data was truncated"
_SURROGATE_ERRORS = ("invalid utf-16 surrogate pair", "unexpected end of hex escape")
_LONE_AT_END = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])[^\\]{0,11}\Z", re.DOTALL)
_TYPE_ERROR = re.compile(r"Expected `(?P<want>[^`]+)`, got `(?P<got>[^`]+)` - at `\$\.(?P<path>.+)`\Z")
_MISSING = re.compile(r"Object missing required field `(?P<field>.+)` - at `\$\.(?P<path>.+)`\Z")
_OTHER = re.compile(r"(?P<text>.+?) - at `\$\.(?P<path>.+)`\Z", re.DOTALL)
_NAMES = {
    "str": "a string",
    "int": "an integer",
    "float": "a number",
    "bool": "a boolean",
    "null": "null",
    "array": "an array",
    "object": "an object",
}


class _Envelope(Struct):
    """The members of a message, none of them looked at."""

    jsonrpc: Raw | UnsetType = UNSET
    id: Raw | UnsetType = UNSET
    method: Raw | UnsetType = UNSET
    params: Raw | UnsetType = UNSET
    result: Raw | UnsetType = UNSET
    error: Raw | UnsetType = UNSET


class _Sender(Struct):
    """What an answer needs to know of its message."""

    id: int | str | None = None
    method: str | None = None
    is_notification: bool = False


_decode_raw = msgspec.json.Decoder(Raw).decode
_decode_envelope = msgspec.json.Decoder(_Envelope).decode
_decode_id: Any = msgspec.json.Decoder(Id).decode
_decode_string = msgspec.json.Decoder(str).decode


def diagnose(data: bytes, limits: Limits, error: Exception | None) -> MalformedMessage | Raw:
    """Why a document is no message.

    Args:
        data: the document, in UTF-8.
        limits: its bounds.
        error: what msgspec said, None if it is happy and the members do not go together.

    Returns:
        The refusal; or the raw ``error`` of an error response with the id null, which is good although JSON-RPC 2.0
        alone allows it (section 5) and MCP leaves the member out.

    Raises:
        RecursionError: it nests deeper than the Python stack lets anyone look.
    """
    if isinstance(error, RecursionError):
        return too_deep(limits)
    try:
        _decode_raw(data)
    except msgspec.DecodeError as flaw:
        return _not_json(data, str(flaw))
    found = excess(data, limits)
    if found is not None:
        return refuse_excess(data, found)
    if not _is_object(data):
        if _kind(data) == "an array":
            sentence = "an array (a batch) is not accepted here; send each message by itself"
            return MalformedMessage(INVALID_REQUEST, sentence, batch=True)
        return MalformedMessage(INVALID_REQUEST, f"a message must be an object, not {_kind(data)}")
    envelope = _decode_envelope(data)
    sender = _read_sender(envelope)
    flawed = _envelope_flaw(envelope)
    if flawed is not None:
        return _refusal(INVALID_REQUEST, flawed, sender)
    if envelope.params is not UNSET:
        return _refusal(INVALID_PARAMS, _params_flaw(envelope.params, str(error)), sender)
    return Raw(bytes(envelope.error))  # type: ignore[arg-type]


def refuse_excess(data: bytes, sentence: str) -> MalformedMessage:
    """The answer to a message over a limit, or with a repeated key: with its id, where that is beyond doubt.

    Raises:
        RecursionError: the Python stack has no room left to look.
    """
    if not _is_object(data):
        return MalformedMessage(INVALID_REQUEST, sentence)
    names = member_names(data)
    if any(names.count(name) > 1 for name in _Envelope.__struct_fields__):
        return MalformedMessage(INVALID_REQUEST, sentence)
    return _refusal(INVALID_REQUEST, sentence, _read_sender(_decode_envelope(data)))


def too_deep(limits: Limits) -> MalformedMessage:
    """The answer to what nests so deep that nobody counts it."""
    return MalformedMessage(
        INVALID_REQUEST, f"the message nests too deep; at most {limits.depth} levels are accepted"
    )


def not_utf8(error: UnicodeDecodeError) -> MalformedMessage:
    """The answer to bytes that are not UTF-8; surrogates encoded as such are not."""
    return MalformedMessage(PARSE_ERROR, f"not UTF-8: invalid byte sequence at byte {error.start}")


def is_array(data: bytes) -> bool:
    """Whether a document, if it is JSON, is an array."""
    return data.lstrip(_WHITE_SPACE)[:1] == b"["


def _refusal(code: int, sentence: str, sender: _Sender) -> MalformedMessage:
    return MalformedMessage(
        code, sentence, id=sender.id, method=sender.method, is_notification=sender.is_notification
    )


def _not_json(data: bytes, flaw: str) -> MalformedMessage:
    if data.startswith(b"\xef\xbb\xbf"):
        sentence = "not JSON: it begins with a byte order mark; send UTF-8 without one"
    elif any(words in flaw for words in _SURROGATE_ERRORS) or (
        flaw == _TRUNCATED and _LONE_AT_END.search(data)
    ):
        sentence = "not JSON: a string has a lone surrogate escape; a pair stands for one character"
    elif flaw == _TRUNCATED:
        sentence = (
            "not JSON: the text ends early" if data.strip(_WHITE_SPACE) else "not JSON: the text is empty"
        )
    else:
        sentence = flaw.replace("JSON is malformed", "not JSON").replace(" (byte ", " at byte ").rstrip(")")
    return MalformedMessage(PARSE_ERROR, sentence)


def _is_object(data: bytes) -> bool:
    return data.lstrip(_WHITE_SPACE)[:1] == b"{"


def _kind(data: bytes) -> str:
    """What a valid JSON value is, with its article."""
    first = data.lstrip(_WHITE_SPACE)[:1]
    by_first = {
        b"{": "an object",
        b"[": "an array",
        b'"': "a string",
        b"n": "null",
        b"t": "a boolean",
        b"f": "a boolean",
    }
    return by_first.get(first, "a number")


def _read_sender(envelope: _Envelope) -> _Sender:
    sender = _Sender()
    if envelope.method is UNSET:
        return sender
    if envelope.result is UNSET and envelope.error is UNSET and envelope.id is not UNSET:
        with contextlib.suppress(msgspec.ValidationError):
            sender.id = _decode_id(envelope.id)
    try:
        sender.method = _decode_string(envelope.method)
    except msgspec.ValidationError:
        return sender
    sender.is_notification = envelope.id is UNSET and envelope.result is UNSET and envelope.error is UNSET
    return sender


def _envelope_flaw(envelope: _Envelope) -> str | None:
    """What is wrong with the members of a message, apart from its parameters."""
    return _version_flaw(envelope.jsonrpc) or _id_flaw(envelope) or _shape_flaw(envelope)


def _id_flaw(envelope: _Envelope) -> str | None:
    if envelope.id is UNSET:
        return None
    written = bytes(envelope.id)
    kind = _kind(written)
    if (
        kind == "null"
        and envelope.error is not UNSET
        and envelope.method is UNSET
        and envelope.result is UNSET
    ):
        return None
    if kind == "a number":
        if any(letter in written for letter in b".eE"):
            return "id must be a string or an integer, not a number with a fraction or an exponent"
        try:
            _decode_id(written)
        except msgspec.ValidationError:
            return "id must lie between -(2^63-1) and 2^63-1"
    elif kind != "a string":
        return f"id must be a string or an integer, not {kind}"
    elif len(_decode_string(written)) > MAX_ID_LENGTH:
        return f"id must have at most {MAX_ID_LENGTH} characters"
    return None


def _shape_flaw(envelope: _Envelope) -> str | None:
    parts = [name for name in ("method", "result", "error") if getattr(envelope, name) is not UNSET]
    if not parts:
        return "method is missing, and there is no result or error either"
    if len(parts) > 1:
        return f"{parts[0]} and {parts[1]} exclude each other; a message has one of them"
    if isinstance(envelope.method, Raw):
        kind = _kind(bytes(envelope.method))
        return None if kind == "a string" else f"method must be a string, not {kind}"
    if envelope.params is not UNSET:
        return "params belongs to a method; a response has none"
    if envelope.id is UNSET and envelope.error is UNSET:
        return "id is missing; a result needs the id of its request"
    return None


def _version_flaw(version: Raw | UnsetType) -> str | None:
    if version is UNSET:
        return 'jsonrpc is missing; it must be "2.0"'
    kind = _kind(bytes(version))
    if kind != "a string":
        return f'jsonrpc must be the string "2.0", not {kind}'
    return None if _decode_string(version) == "2.0" else 'jsonrpc must be "2.0", no other version'


def _params_flaw(params: Raw, error: str) -> str:
    """What is wrong with the parameters, from msgspec's words for it."""
    kind = _kind(bytes(params))
    if kind != "an object":
        return f"params must be an object, not {kind}"
    wrong = _TYPE_ERROR.match(error)
    if wrong:
        want = " or ".join(_NAMES.get(name, name) for name in wrong["want"].split(" | "))
        got = _NAMES.get(wrong["got"], wrong["got"])
        if wrong["got"] == "float" and "float" not in wrong["want"] and "int" in wrong["want"]:
            got = "a number with a fraction or an exponent"
        elif wrong["got"] == "int":
            got = "a number"
        return f"{wrong['path']} must be {want}, not {got}"
    missing = _MISSING.match(error)
    if missing:
        return f"{missing['path']}.{missing['field']} is missing"
    other = _OTHER.match(error)
    return f"{other['path']}: {other['text'].replace('`', '')}" if other else f"params: {error}"
