"""Messages on their way out: one document, no newline in it, whatever a raw payload brings along."""

from typing import Any

from msgspec import UNSET, Raw, Struct, UnsetType
from msgspec.json import Encoder

_encode = Encoder().encode

_LF, _CR = 0x0A, 0x0D  # a byte is found in a tenth of the time that a string of one takes


class _Result(Struct):
    jsonrpc: str
    id: int | str
    result: Any


class _Problem(Struct):
    code: int
    message: str
    data: Any


class _Failure(Struct):
    jsonrpc: str
    id: int | str | UnsetType
    error: _Problem


class _Call(Struct):
    jsonrpc: str
    id: int | str | UnsetType
    method: str
    params: Any


def _one_line(document: bytes) -> bytes:
    # Line breaks in valid JSON are white space between tokens; an upstream's raw payload may have them, and they
    # would break up a line of a stream, or an event of SSE.
    if _LF in document or _CR in document:
        return document.replace(b"\n", b" ").replace(b"\r", b" ")
    return document


def encode_result(id: int | str, result: dict[str, Any] | Raw) -> bytes:  # noqa: A002 - JSON-RPC's own name
    """A response. `msgspec.Raw` passes through unparsed, as the result or anywhere in it; NaN becomes null."""
    return _one_line(_encode(_Result("2.0", id, result)))


def encode_error(id: int | str | None, code: int, message: str, data: Any = UNSET) -> bytes:  # noqa: A002
    """An error response.

    With `id` None the member is left out: revision 2026-07-28 (schema, JSONRPCErrorResponse) has it optional, and never
    null as JSON-RPC 2.0 would.
    """
    return _one_line(_encode(_Failure("2.0", UNSET if id is None else id, _Problem(code, message, data))))


def encode_notification(method: str, params: dict[str, Any] | Raw | UnsetType = UNSET) -> bytes:
    """A notification; without `params` the member is left out."""
    return _one_line(_encode(_Call("2.0", UNSET, method, params)))


def encode_request(
    id: int | str,  # noqa: A002 - JSON-RPC's own name
    method: str,
    params: dict[str, Any] | Raw | UnsetType = UNSET,
) -> bytes:
    """A request; without `params` the member is left out."""
    return _one_line(_encode(_Call("2.0", id, method, params)))
