"""Result objects as the modern era has them on the wire."""

from typing import Any, Literal

from msgspec import Raw

from erlmcp.protocol._meta import SERVER_INFO_KEY


def server_info_meta(info: Any) -> dict[str, Any]:
    """The `_meta` that names the server on each result; `info` is an ``Implementation`` object."""
    return {SERVER_INFO_KEY: info}


def complete(fields: dict[str, Any], meta: dict[str, Any] | None = None) -> dict[str, Any]:
    """A finished result (basic/index, "ResultType").

    Args:
        fields: the method's own fields, a `_meta` among them.
        meta: what the hop adds, such as `server_info_meta`; its keys are the hop's, whatever the fields say of them.
    """
    return _typed("complete", fields, meta)


def input_required(
    questions: dict[str, dict[str, Any]] | Raw | None,
    state: str | None = None,
    meta: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """A result that asks for input (basic/patterns/mrtr).

    Args:
        questions: key -> request object, or that encoded; may be empty or None if there is a state.
        state: the opaque ``requestState``, None for none.
        meta: what the hop adds.

    Raises:
        ValueError: neither questions nor a state.
    """
    fields: dict[str, Any] = {}
    if questions:
        fields["inputRequests"] = questions
    if state is not None:
        fields["requestState"] = state
    if not fields:
        raise ValueError("an input_required result needs questions or a state (basic/patterns/mrtr)")
    return _typed("input_required", fields, meta)


def cached(fields: dict[str, Any], ttl_ms: int, scope: Literal["public", "private"]) -> dict[str, Any]:
    """Fields with what a cacheable result must say (server/utilities/caching)."""
    return {**fields, "ttlMs": ttl_ms, "cacheScope": scope}


def _typed(kind: str, fields: dict[str, Any], meta: dict[str, Any] | None) -> dict[str, Any]:
    result = {"resultType": kind, **fields}
    if meta:
        own = fields.get("_meta")
        result["_meta"] = {**own, **meta} if own else meta
    return result
