"""Which era a message belongs to, and what a modern request must satisfy before anything looks at its method.

Pure decisions over what has been read of the message; each is made for the message alone, since a stream or
an endpoint may carry both eras.
"""

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Final

from msgspec import UNSET, Struct, UnsetType

from erlmcp.protocol._errors import (
    McpError,
    invalid_params,
    invalid_request,
    malformed_envelope,
    method_not_found,
    unsupported_version,
)
from erlmcp.protocol._headers import check_headers
from erlmcp.protocol._meta import CLIENT_CAPABILITIES_KEY, PROTOCOL_VERSION_KEY, Meta
from erlmcp.protocol._methods import METHODS, Method
from erlmcp.protocol._params import Params
from erlmcp.protocol._revisions import Revision
from erlmcp.protocol._versions import HANDSHAKE_VERSIONS, MODERN_VERSIONS


class Era(Enum):
    """How a client speaks."""

    MODERN = "modern"
    HANDSHAKE = "handshake"


class Decision(Enum):
    """What is to be done with a message."""

    MODERN = "modern"
    """Go on with `check_modern`."""
    HANDSHAKE = "handshake"
    """Hand it to the handshake edge."""
    CANCEL = "cancel"
    """Cancel the request in flight that ``params.requestId`` names."""
    IGNORE = "ignore"
    """Take it (HTTP 202) and do nothing."""
    REFUSE = "refuse"
    """Answer with the verdict's error."""


class Verdict(Struct, frozen=True):
    """The decision about a message; `error` is set if, and only if, it is `Decision.REFUSE`."""

    decision: Decision
    error: McpError | None = None


_MODERN: Final = Verdict(Decision.MODERN)
_HANDSHAKE: Final = Verdict(Decision.HANDSHAKE)
_CANCEL: Final = Verdict(Decision.CANCEL)
_IGNORE: Final = Verdict(Decision.IGNORE)

_MODERN_ALONE: Final = frozenset({"server/discover", "subscriptions/listen"})
_HANDSHAKE_HEADERS: Final = frozenset(version.encode() for version in HANDSHAKE_VERSIONS)
_MODERN_HEADERS: Final = frozenset(version.encode() for version in MODERN_VERSIONS)


def has_envelope(meta: Meta) -> bool:
    """Whether `_meta` has any of the envelope's keys: protocol version, client info, client capabilities."""
    return (
        meta.protocol_version is not UNSET or meta.capabilities is not UNSET or meta.client_info is not UNSET
    )


def classify_request(method: str, meta: Meta, version_header: bytes | None = None) -> Verdict:
    """Rules a, b, c and h: a message with an id and a method.

    Args:
        method: the message's method.
        meta: its `_meta`, `NO_META` if it has none.
        version_header: the value of ``MCP-Protocol-Version``; None where the request has none, or has no
            headers.
    """
    if meta.protocol_version is not UNSET or has_envelope(meta):
        return _MODERN
    if method == "initialize":
        return _HANDSHAKE
    if method in _MODERN_ALONE or (version_header is not None and not _names_handshake(version_header)):
        return Verdict(Decision.REFUSE, missing_envelope(meta))
    return _HANDSHAKE


def classify_notification(method: str, *, on_http: bool, version_header: bytes | None = None) -> Verdict:
    """Rule d: a message with a method and no id.

    What a handshake notification comes to is its edge's affair; a server without that edge takes it and does
    nothing.
    """
    if not on_http:
        return _CANCEL if method == "notifications/cancelled" else _HANDSHAKE
    if version_header is not None and version_header.strip() in _MODERN_HEADERS:
        return _IGNORE
    return _HANDSHAKE


def classify_response(*, on_http: bool, session: bool = False) -> Verdict:
    """Rule e: a message with a result or an error.

    Args:
        on_http: whether it came in an HTTP request.
        session: whether that request had an ``Mcp-Session-Id``.
    """
    if on_http and not session:
        return Verdict(
            Decision.REFUSE,
            invalid_request("A response was sent outside of a session; send requests and notifications only"),
        )
    return _HANDSHAKE


def refuse_array() -> McpError:
    """Rule f, where no session negotiated 2025-03-26: the one -32600 that answers an array."""
    return invalid_request("Batches are not supported: send one JSON-RPC message at a time")


def check_batch(revision: Revision | None, calls: Iterable[tuple[str, Meta]]) -> McpError | None:
    """Rule f: whether an array may come here.

    Args:
        revision: the session's, None where there is no session.
        calls: method and `_meta` of each request and notification in it.

    Returns:
        None if each of its messages is to be taken by itself, else the one -32600 (HTTP 400) that answers them all.
    """
    if revision is None or not revision.batches:
        return refuse_array()
    for method, meta in calls:
        if method == "initialize" or has_envelope(meta):
            return invalid_request(
                "initialize, and requests with an envelope in _meta, must not be part of a batch"
            )
    return None


def classify_session(
    method: str | None,
    *,
    wants_answer: bool,
    on_http: bool,
    session: bool,
    version_header: bytes | None = None,
) -> Verdict:
    """Rule h, for what the other rules leave to the handshake edge: whether there must be a session, and is.

    The header's revision is not compared with the session's, which wins; it must only be one.

    Args:
        method: the message's; None for a response.
        wants_answer: whether it is a request.
        on_http: whether it came in an HTTP request.
        session: whether a live session goes with it: on a stream, the stream's; on HTTP, that of ``Mcp-Session-Id``.
        version_header: the value of ``MCP-Protocol-Version``, None for none.

    Returns:
        `Decision.HANDSHAKE`; or `Decision.IGNORE` for what must not be answered; or `Decision.REFUSE` with -32602 and
        HTTP 400.
    """
    if method == "initialize" and wants_answer:
        return _HANDSHAKE
    if version_header is not None and not _names_handshake(version_header):
        known = ", ".join(HANDSHAKE_VERSIONS)
        return Verdict(
            Decision.REFUSE,
            invalid_params(
                f"MCP-Protocol-Version names none of the revisions with sessions: {known}", status=400
            ),
        )
    if session:
        return _HANDSHAKE
    if not on_http:
        if not wants_answer:
            return _IGNORE
        if method == "ping":
            return _HANDSHAKE
    where = "the Mcp-Session-Id of its answer with each request" if on_http else "requests"
    return Verdict(
        Decision.REFUSE,
        invalid_params(
            f"There is no session: send initialize, then {where}; or give each request"
            f" {PROTOCOL_VERSION_KEY} and {CLIENT_CAPABILITIES_KEY} in _meta",
            status=400,
        ),
    )


def bare_http_status(*, session: bool, version_header: bytes | None = None) -> int | None:
    """Rule g: the status that refuses an HTTP GET or DELETE, or None if it is the handshake edge's.

    A server without a handshake edge answers 405 to all of them.
    """
    if session:
        return None
    return 400 if version_header is not None and _names_handshake(version_header) else 405


def missing_envelope(meta: Meta) -> McpError:
    """-32602 that names the required `_meta` fields which are absent (basic/index, "_meta")."""
    missing = [
        key
        for key, value in (
            (PROTOCOL_VERSION_KEY, meta.protocol_version),
            (CLIENT_CAPABILITIES_KEY, meta.capabilities),
        )
        if value is UNSET
    ]
    plural = "fields" if len(missing) > 1 else "field"
    return malformed_envelope(f"Missing required _meta {plural}: {', '.join(missing)}")


def check_modern(
    method: str,
    meta: Meta,
    headers: Mapping[bytes, bytes] | None = None,
    params: Params | UnsetType = UNSET,
) -> Method | McpError:
    """Check a modern request in the order that the rules fix: envelope, headers, version, method.

    Args:
        method: the message's method.
        meta: its `_meta`.
        headers: HTTP header fields with names in lower case; None where the transport has none.
        params: its parameters; ``Mcp-Name`` is compared with the one that the method's `name_field` names.

    Returns:
        The method, or the error to answer with: -32602, -32020, -32022 or -32601.
    """
    version = meta.protocol_version
    if version is UNSET or meta.capabilities is UNSET:
        return missing_envelope(meta)
    known = METHODS.get(method)
    if headers is not None:
        name = None
        if known is not None and known.name_field is not None and params is not UNSET:
            named = getattr(params, known.name_field)
            name = None if named is UNSET else named
        problem = check_headers(headers, version=version, method=method, name=name)
        if problem is not None:
            return problem
    if version not in MODERN_VERSIONS:
        return unsupported_version(version)
    if known is None:
        return method_not_found(method)
    return known


def _names_handshake(version_header: bytes) -> bool:
    return version_header.strip() in _HANDSHAKE_HEADERS
