"""Which era a server is of: decided from what came of ``server/discover``, by a pure function.

Sources: basic/versioning, "Backward Compatibility"; basic/transports/stdio and /streamable-http, likewise.
"""

import enum
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from msgspec import Raw

from erlmcp.client._errors import BadAnswer, ClientError, Disconnected, NotOffered, ServerError, TimedOut
from erlmcp.client._results import DiscoverResult, read
from erlmcp.protocol import HANDSHAKE_VERSIONS, MODERN, errors

_MODERN_ERRORS: Final = {errors.HEADER_MISMATCH, errors.MISSING_CAPABILITY}


class Verdict(enum.Enum):
    """What the probe says of a server."""

    MODERN = "modern"
    HANDSHAKE = "handshake"


def judge(outcome: Raw | ClientError, *, linked: bool, peer: str) -> tuple[Verdict, DiscoverResult | None]:
    """Decide from the outcome of ``server/discover``.

    Args:
        outcome: the result, or why there is none.
        linked: whether the wire is HTTP, where silence and refusals of the way there say nothing of the era.
        peer: the server's name, for errors.

    Returns:
        The era, and what a modern server said.

    Raises:
        ClientError: it cannot be told, or there is no version that both speak.
    """
    if isinstance(outcome, ClientError):
        return _judge_failure(outcome, linked=linked), None
    try:
        result = read(DiscoverResult, outcome)
    except msgspec.DecodeError:
        return Verdict.HANDSHAKE, None
    versions = result.supported_versions
    if MODERN in versions:
        return Verdict.MODERN, result
    return _common(versions, peer), None


def speaks_ours(error: ClientError) -> bool:
    """Whether a refusal of the version names the modern one among those that the server speaks."""
    if not isinstance(error, ServerError) or error.code != errors.UNSUPPORTED_VERSION:
        return False
    supported = error.data.get("supported") if isinstance(error.data, dict) else None
    return isinstance(supported, list) and MODERN in supported


def _judge_failure(error: ClientError, *, linked: bool) -> Verdict:
    if isinstance(error, ServerError):
        return _judge_refusal(error, linked=linked)
    if linked:
        status = getattr(error, "status", None)
        if isinstance(error, Disconnected) and status is not None and _says_old(status):
            return Verdict.HANDSHAKE
        raise error
    if isinstance(error, Disconnected) and error.unsent:
        raise error  # there is nobody
    if isinstance(error, Disconnected | TimedOut | BadAnswer):
        return Verdict.HANDSHAKE
    raise error


def _judge_refusal(error: ServerError, *, linked: bool) -> Verdict:
    if error.code == errors.UNSUPPORTED_VERSION:
        data: Any = error.data
        supported = data.get("supported") if isinstance(data, dict) else None
        return _common(supported if isinstance(supported, list) else [], error.peer)
    if error.code in _MODERN_ERRORS:
        raise error
    if linked and error.answered_with and not _says_old(error.answered_with) and error.answered_with != 200:
        raise error
    return Verdict.HANDSHAKE


def _says_old(status: int) -> bool:
    return 400 <= status < 500 and status not in {401, 403, 408, 429}


def _common(versions: Sequence[Any], peer: str) -> Verdict:
    if any(version in HANDSHAKE_VERSIONS for version in versions):
        return Verdict.HANDSHAKE
    spoken = ", ".join((MODERN, *HANDSHAKE_VERSIONS))
    offered = ", ".join(str(one)[:40] for one in versions[:10]) or "none that it names"
    raise NotOffered(peer, f"no version in common: it speaks {offered}; spoken here are {spoken}")
