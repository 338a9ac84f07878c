"""The HTTP headers that mirror a request's body (basic/transports/streamable-http, "Request Metadata").

Field names come in lower case, as transports give them; values are raw bytes. Every refusal is a -32020.
"""

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, Protocol

from erlmcp.protocol._errors import McpError, header_mismatch

VERSION_HEADER: Final = b"mcp-protocol-version"
METHOD_HEADER: Final = b"mcp-method"
NAME_HEADER: Final = b"mcp-name"

_SENTINEL_START: Final = b"=?base64?"
_SENTINEL_END: Final = b"?="
_WHITESPACE: Final = b" \t"
_INVALID: Final = re.compile(rb"[^\t\x20-\x7e]")
_SAFE: Final = re.compile(r"[\x21-\x7e](?:[\t\x20-\x7e]*[\x21-\x7e])?|")
_INTEGER: Final = re.compile(r"-?[0-9]{1,40}(?:\.0{1,40})?")
_SAFE_INTEGER: Final = 2**53 - 1


class MirroredParameter(Protocol):
    """A tool parameter that is mirrored into a header: `erlmcp.interfaces.HeaderParameter` is one."""

    @property
    def path(self) -> tuple[str, ...]:
        """The chain of property names from the root of the arguments."""

    @property
    def header(self) -> bytes:
        """The full field name, in lower case."""

    @property
    def kind(self) -> str:
        """``string``, ``integer`` or ``boolean``."""


def encode_header_value(value: str | int | bool) -> bytes:
    """The header value for a parameter or a name ("Value Encoding").

    Raises:
        ValueError: an integer beyond 2**53 - 1, or a string with lone surrogates.
    """
    if isinstance(value, bool):
        return b"true" if value else b"false"
    if isinstance(value, int):
        if abs(value) > _SAFE_INTEGER:
            raise ValueError(f"{value} is outside -(2**53 - 1) to 2**53 - 1")
        return b"%d" % value
    raw = value.encode()
    sentinel = raw.startswith(_SENTINEL_START) and raw.endswith(_SENTINEL_END)
    if _SAFE.fullmatch(value) is not None and not sentinel:
        return raw
    return _SENTINEL_START + base64.b64encode(raw) + _SENTINEL_END


def decode_header_value(value: bytes) -> str:
    """Read the value of ``Mcp-Name`` or ``Mcp-Param-*``; of no other header.

    Raises:
        ValueError: a character that headers cannot have, or a sentinel with broken Base64 or UTF-8 inside.
    """
    value = value.strip(_WHITESPACE)
    invalid = _INVALID.search(value)
    if invalid is not None:
        raise ValueError(f"has an invalid character at position {invalid.start()}")
    size = len(value)
    if size < len(_SENTINEL_START) + len(_SENTINEL_END) or not (
        value.startswith(_SENTINEL_START) and value.endswith(_SENTINEL_END)
    ):
        return value.decode("ascii")
    try:
        return base64.b64decode(value[9:-2], validate=True).decode()
    except binascii.Error:
        raise ValueError("is marked as Base64 and is not") from None
    except UnicodeDecodeError:
        raise ValueError("is marked as Base64 and its content is not UTF-8") from None


def check_headers(
    headers: Mapping[bytes, bytes], *, version: str, method: str, name: str | None
) -> McpError | None:
    """Compare the standard headers with the body.

    Args:
        headers: the request's header fields.
        version: the body's protocol version.
        method: the body's method.
        name: ``params.name`` or ``params.uri`` for the methods that have a name field; None for the others,
            whose ``Mcp-Name`` is not looked at.

    Returns:
        None if they agree, else the -32020 that says which header is wrong and how.
    """
    if headers.get(VERSION_HEADER) != version.encode():
        problem = _compare_plain("MCP-Protocol-Version", headers.get(VERSION_HEADER), version)
        if problem is not None:
            return problem
    if headers.get(METHOD_HEADER) != method.encode():
        problem = _compare_plain("Mcp-Method", headers.get(METHOD_HEADER), method)
        if problem is not None:
            return problem
    if name is None:
        return None
    value = headers.get(NAME_HEADER)
    # A name that is plain text equals its header; whatever might be encoded or illegal takes the long way.
    if name.isascii() and name.isprintable() and value == name.encode() and value[:2] != b"=?":
        return None
    return _compare_name(value, name)


def _compare_plain(field: str, value: bytes | None, expected: str) -> McpError | None:
    if value is None:
        return header_mismatch(f"{field} header is missing, expected '{_shown(expected)}'")
    value = value.strip(_WHITESPACE)
    invalid = _INVALID.search(value)
    if invalid is not None:
        return header_mismatch(f"{field} header has an invalid character at position {invalid.start()}")
    text = value.decode("ascii")
    if text != expected:
        return header_mismatch(
            f"{field} header value '{_shown(text)}' does not match body value '{_shown(expected)}'"
        )
    return None


def _compare_name(value: bytes | None, name: str) -> McpError | None:
    if value is None:
        return header_mismatch(f"Mcp-Name header is missing, expected '{_shown(name)}'")
    try:
        text = decode_header_value(value)
    except ValueError as problem:
        return header_mismatch(f"Mcp-Name header {problem}")
    if text != name:
        return header_mismatch(
            f"Mcp-Name header value '{_shown(text)}' does not match body value '{_shown(name)}'"
        )
    return None


def check_parameter_headers(
    headers: Mapping[bytes, bytes], parameters: Iterable[MirroredParameter], arguments: Mapping[str, Any]
) -> McpError | None:
    """Compare the ``Mcp-Param-*`` headers that a tool declares with its arguments.

    An argument that is absent or null expects no header, and a header for it is a mismatch. Integers are
    compared as numbers. A value of another kind than declared is left to the schema's validation, and its
    header to a comparison with its JSON-like text. Call this after authorization only: its answers reveal the
    tool's schema.

    Returns:
        None if they agree, else a -32020.
    """
    for parameter in parameters:
        value = _value_at(parameter.path, arguments)
        header = headers.get(parameter.header)
        if header is None and value is None:
            continue
        problem = _parameter_problem(header, value)
        if problem is not None:
            return header_mismatch(f"{_field_name(parameter.header)} header {problem}")
    return None


def _value_at(path: tuple[str, ...], arguments: Any) -> Any:
    for key in path:
        if not isinstance(arguments, Mapping):
            return None
        arguments = arguments.get(key)
    return arguments


def _parameter_problem(header: bytes | None, value: Any) -> str | None:
    if header is None:
        return f"is missing, expected '{_shown(_text_of(value))}'"
    try:
        text = decode_header_value(header)
    except ValueError as problem:
        return str(problem)
    if value is None:
        return f"value '{_shown(text)}' has no argument in the body"
    if _matches(text, value):
        return None
    return f"value '{_shown(text)}' does not match body value '{_shown(_text_of(value))}'"


def _matches(text: str, value: Any) -> bool:
    if isinstance(value, str):
        return text == value
    if isinstance(value, bool):
        return text == ("true" if value else "false")
    if isinstance(value, int | float):
        return _INTEGER.fullmatch(text) is not None and int(text.partition(".")[0]) == value
    return False


def _text_of(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    return "an array" if isinstance(value, list) else "an object"


def _field_name(header: bytes) -> str:
    return header.decode("ascii", "replace").title()


def _shown(text: str) -> str:
    """A value for a message: short, and without characters that would garble it."""
    text = text if len(text) <= 100 else f"{text[:100]}…"
    return "".join(character if character.isprintable() else "�" for character in text)
