"""An upstream's failures in the words of this hop (eras.md, "Errors"): pure functions."""

from typing import Any, Final

import msgspec

from erlmcp.client import BadAnswer, Busy, ClientError, Disconnected, ServerError, TimedOut
from erlmcp.client.oauth import AuthorizationError
from erlmcp.interfaces import Request
from erlmcp.protocol import ClientCapabilities, McpError, errors

RESOURCE_NOT_FOUND: Final = -32002
URL_NEEDED: Final = -32042
_RESERVED: Final = range(-32099, -32019)
_OUR_OWN: Final = frozenset({errors.PARSE_ERROR, errors.INVALID_REQUEST, errors.METHOD_NOT_FOUND})
"""What an upstream says of the messages that this hop made: no affair of the client's."""
_NOT_THEIRS: Final = frozenset({errors.SHUTTING_DOWN, errors.OVERLOADED, errors.RATE_LIMITED})


def translate(
    error: ClientError, request: Request, upstream: str, *, theirs: bool, repeatable: bool, lost: bool = False
) -> McpError:
    """What a client hears of an upstream's failure.

    Args:
        error: the failure.
        request: what was asked.
        upstream: the upstream's name.
        theirs: whether the session serves this client's principal alone, who may then read a child's last words.
        repeatable: whether making the call again does no harm.
        lost: whether it was lost once already, and may have been executed then.
    """
    if isinstance(error, ServerError):
        if error.method != request.method:
            # It refused what this hop says to begin with, such as ``initialize``.
            return _unavailable(upstream, f"it refuses {error.method}: {error.message[:500]} ({error.code})")
        return _of_server(error, request, upstream)
    if lost and isinstance(error, (Disconnected, TimedOut, Busy)):
        cause = _cause(error, theirs=theirs) if isinstance(error, Disconnected) else _plain(error)
        return _lost(upstream, cause)
    if isinstance(error, (TimedOut, Busy)):
        # Calls have no limit of time here but their own deadline: it is the way there that could not be had.
        return _unavailable(upstream, _plain(error))
    if isinstance(error, Disconnected):
        if error.unsent or error.session_lost or (error.status is not None and error.status < 500):
            return _unavailable(upstream, _cause(error, theirs=theirs))
        if repeatable:
            return _lost(upstream, _cause(error, theirs=theirs))
        unknown = errors.outcome_unknown(
            f"The upstream {upstream} was lost while it worked on this: the outcome is unknown"
            f" ({_cause(error, theirs=theirs)})"
        )
        unknown.data = {"upstream": upstream}
        return unknown
    if isinstance(error, BadAnswer):
        return errors.internal(
            f"The upstream {upstream} gave a bad answer: {_plain(error)}", {"upstream": upstream}
        )
    return errors.internal(f"The upstream {upstream} failed: {_plain(error)}", {"upstream": upstream})


def unavailable(upstream: str, why: str, retry_after: float | None = None) -> McpError:
    """The upstream cannot be asked now; nothing was executed."""
    return _unavailable(upstream, why, retry_after)


def gone(upstream: str) -> McpError:
    """The process that worked on this call has gone, with what it had done of it."""
    unknown = errors.outcome_unknown(
        f"The process of {upstream} that worked on this has gone, so its outcome is unknown"
    )
    unknown.data = {"upstream": upstream}
    return unknown


def too_late(request: Request, upstream: str, *, sent: bool, repeatable: bool) -> McpError:
    """The upstream has not answered by the request's deadline.

    Args:
        request: what was asked.
        upstream: the upstream's name.
        sent: whether it was sent at all.
        repeatable: whether making the call again does no harm.
    """
    late = errors.deadline_exceeded(None, request.refer())
    if repeatable:
        done = "it does no harm to make the call again"
    elif not sent:
        done = "nothing was executed"
    else:
        done = "the outcome is unknown"
    late.message = f"The upstream {upstream} has not answered before the request's deadline: {done}"
    late.data = {"upstream": upstream, **late.data}
    return late


def url_questions(error: ServerError) -> dict[str, dict[str, Any]]:
    """The visits that a -32042 of 2025-11-25 asks for, as questions; empty if it names none."""
    data = error.data if isinstance(error.data, dict) else {}
    wanted = data.get("elicitations")
    found = {}
    for number, one in enumerate(wanted if isinstance(wanted, list) else (), 1):
        if isinstance(one, dict) and isinstance(one.get("url"), str) and isinstance(one.get("message"), str):
            params = {"mode": "url", "message": one["message"], "url": one["url"]}
            found[f"url-{number}"] = {"method": "elicitation/create", "params": params}
    return found


def is_authorization(error: ClientError) -> bool:
    """Whether nothing was sent for want of authorization: the tokens' fault, not the upstream's."""
    cause = error.__cause__
    return isinstance(cause, AuthorizationError) or isinstance(
        getattr(cause, "__cause__", None), AuthorizationError
    )


def _of_server(error: ServerError, request: Request, upstream: str) -> McpError:
    code, message, data = error.code, error.message, error.data
    if code == RESOURCE_NOT_FOUND and request.method == "resources/read":
        return errors.resource_not_found(request.name)
    if code in {
        errors.MISSING_CAPABILITY,
        errors.INVALID_REQUEST,
    }:  # as it is, and as handshake revisions have it
        lacking = _lacking(data, request.capabilities)
        if lacking:
            return errors.missing_capability(lacking)
    if code == URL_NEEDED:
        return errors.internal(
            f"The upstream {upstream} wants its user to visit a URL first: {message[:500]}",
            {"upstream": upstream},
        )
    if code in _RESERVED or code in _OUR_OWN:
        return errors.internal(
            f"The upstream {upstream} refused the gateway's request: {message[:500]} ({code})",
            {"upstream": upstream},
        )
    if code in _NOT_THEIRS:
        return _unavailable(upstream, message[:500])
    return McpError(code, message, data)


def _lacking(data: Any, capabilities: ClientCapabilities | None) -> dict[str, Any]:
    """What of the required capabilities this client really has not declared."""
    required = data.get("requiredCapabilities") if isinstance(data, dict) else None
    declared = {} if capabilities is None else msgspec.json.decode(msgspec.json.encode(capabilities))
    return _without(required, declared) if isinstance(required, dict) else {}


def _without(required: dict[str, Any], declared: dict[str, Any]) -> dict[str, Any]:
    lacking = {}
    for name, value in required.items():
        if name not in declared:
            lacking[name] = value
        elif isinstance(value, dict) and isinstance(declared[name], dict):
            below = _without(value, declared[name])
            # Elicitation that says no kind means forms (client/elicitation, "Capabilities").
            if name == "elicitation" and not declared[name]:
                below.pop("form", None)
            if below:
                lacking[name] = below
    return lacking


def _unavailable(upstream: str, why: str, retry_after: float | None = None) -> McpError:
    data: dict[str, Any] = {"upstream": upstream}
    if retry_after is not None:
        data["retryAfterMs"] = round(retry_after * 1000)
    return errors.overloaded(f"The upstream {upstream} is not available: {why}; nothing was executed", data)


def _lost(upstream: str, why: str) -> McpError:
    """What may have been executed, and may be again."""
    lost = f"The upstream {upstream} was lost while it worked on this: {why}"
    return errors.overloaded(f"{lost}; it does no harm to make the call again", {"upstream": upstream})


def _cause(error: Disconnected, *, theirs: bool) -> str:
    cause = error.__cause__
    text = str(cause) if cause is not None else _plain(error).partition("\n")[0]
    return f"{text}; its last lines: {error.tail}" if theirs and error.tail else text.partition("\n")[0]


def _plain(error: ClientError) -> str:
    """The message without the upstream's address, which is the operator's affair."""
    return str(error).removeprefix(f"{error.peer}: ")
