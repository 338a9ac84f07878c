"""The `_meta` of a client's message: the envelope that makes a request modern, and the protocol's other keys.

Keys that the protocol does not know are not looked at; who needs them has the raw bytes.
"""

import re
from typing import Final, Literal

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType, field

from erlmcp.protocol._capabilities import ClientCapabilities
from erlmcp.protocol._errors import malformed_envelope

PROTOCOL_VERSION_KEY: Final = "io.modelcontextprotocol/protocolVersion"
CLIENT_INFO_KEY: Final = "io.modelcontextprotocol/clientInfo"
CLIENT_CAPABILITIES_KEY: Final = "io.modelcontextprotocol/clientCapabilities"
LOG_LEVEL_KEY: Final = "io.modelcontextprotocol/logLevel"
SERVER_INFO_KEY: Final = "io.modelcontextprotocol/serverInfo"
SUBSCRIPTION_ID_KEY: Final = "io.modelcontextprotocol/subscriptionId"

_Level = Literal["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"]


class Implementation(Struct, frozen=True):
    """A client's or server's name and version, as it says them itself: for display, never for decisions."""

    name: str
    version: str
    title: str | UnsetType = UNSET


class Meta(Struct, frozen=True):
    """What the protocol reads in a request's `_meta`; UNSET where absent (basic/index, "_meta")."""

    protocol_version: str | UnsetType = field(name=PROTOCOL_VERSION_KEY, default=UNSET)
    client_info: Implementation | UnsetType = field(name=CLIENT_INFO_KEY, default=UNSET)
    capabilities: ClientCapabilities | UnsetType = field(name=CLIENT_CAPABILITIES_KEY, default=UNSET)
    log_level: _Level | UnsetType = field(name=LOG_LEVEL_KEY, default=UNSET)
    progress_token: int | str | UnsetType = field(name="progressToken", default=UNSET)
    traceparent: str | UnsetType = UNSET
    tracestate: str | UnsetType = UNSET
    baggage: str | UnsetType = UNSET


NO_META: Final = Meta()
"""The `_meta` of a message that has none."""

_CACHED_SIZE: Final = 1024
_CACHED_COUNT: Final = 512
_decode: Final = msgspec.json.Decoder(Meta).decode
_cache: Final[dict[bytes, Meta]] = {}


def read_meta(raw: bytes | Raw | UnsetType) -> Meta:
    """Read a message's `_meta` object.

    Clients send the same envelope again and again, so the last 512 different ones of up to 1 KiB are
    remembered.

    Args:
        raw: the JSON text of the object; UNSET reads as `NO_META`.

    Raises:
        McpError: -32602 with HTTP 400, naming the key that has a value of the wrong kind.
    """
    if raw is UNSET:
        return NO_META
    text = bytes(raw)
    meta = _cache.get(text)
    if meta is None:
        try:
            meta = _decode(text)
        except (msgspec.DecodeError, RecursionError) as problem:
            raise malformed_envelope(f"Invalid _meta: {_located(problem)}") from None
        if len(text) <= _CACHED_SIZE:
            if len(_cache) >= _CACHED_COUNT:
                del _cache[next(iter(_cache))]
            _cache[text] = meta
    return meta


def _located(problem: Exception) -> str:
    """Msgspec's message with ``$`` of its path written as ``params._meta``."""
    return str(problem).replace("`$", "`params._meta", 1)


_PREFIX_LABEL: Final = r"[A-Za-z](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_KEY: Final = re.compile(
    rf"(?:{_PREFIX_LABEL}(?:\.{_PREFIX_LABEL})*/)?(?:[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)?"
)
_KEY_LENGTH: Final = 512


def valid_meta_key(key: str) -> bool:
    """Whether a `_meta` key is well formed: an optional prefix of labels, a name (basic/index, "_meta").

    Keys over 512 characters are refused, which the specification leaves open.
    """
    return len(key) <= _KEY_LENGTH and _KEY.fullmatch(key) is not None


def reserved_meta_key(key: str) -> bool:
    """Whether a key is the protocol's: the second label is ``modelcontextprotocol`` or ``mcp``."""
    prefix, slash, _ = key.partition("/")
    labels = prefix.split(".")
    return bool(slash) and len(labels) > 1 and labels[1] in {"modelcontextprotocol", "mcp"}
