"""JSON-RPC 2.0 as MCP carries it: lines, documents, limits, and one defined answer to each thing that is wrong.

Bytes in, messages out, and back; no I/O, and nothing of MCP's own methods. ``docs/reference/jsonrpc.md`` has the table.
"""

from erlmcp.jsonrpc._codec import Codec
from erlmcp.jsonrpc._encoding import encode_error, encode_notification, encode_request, encode_result
from erlmcp.jsonrpc._errors import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    PARSE_ERROR,
    MalformedMessage,
    message_too_large,
)
from erlmcp.jsonrpc._framing import LineFramer, Overlong
from erlmcp.jsonrpc._limits import Limits
from erlmcp.jsonrpc._message import MAX_ID, MAX_ID_LENGTH, Message
from erlmcp.jsonrpc._payload import decode_payload
from erlmcp.jsonrpc._scan import unique_keys

__all__ = [
    "INTERNAL_ERROR",
    "INVALID_PARAMS",
    "INVALID_REQUEST",
    "MAX_ID",
    "MAX_ID_LENGTH",
    "METHOD_NOT_FOUND",
    "PARSE_ERROR",
    "Codec",
    "Limits",
    "LineFramer",
    "MalformedMessage",
    "Message",
    "Overlong",
    "decode_payload",
    "encode_error",
    "encode_notification",
    "encode_request",
    "encode_result",
    "message_too_large",
    "unique_keys",
]
