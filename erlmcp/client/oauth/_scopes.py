"""Which scopes are asked for (2026-07-28, scope selection strategy and step-up authorization flow). Pure."""

from collections.abc import Iterable
from typing import Final

MAX_SCOPES: Final = 200
"""Scopes in one request. A server that goes on demanding others is not followed past it."""

OFFLINE: Final = "offline_access"


def union(*groups: Iterable[str]) -> tuple[str, ...]:
    """All scopes of some groups, each once, in the order in which they first come."""
    return tuple(dict.fromkeys(scope for group in groups for scope in group))[:MAX_SCOPES]


def select_scopes(
    challenged: tuple[str, ...],
    supported: tuple[str, ...] | None,
    configured: tuple[str, ...],
    before: tuple[str, ...],
) -> tuple[str, ...]:
    """The scopes to ask for; none means that the request does not name scopes at all.

    Args:
        challenged: what the server demands now. It is authoritative.
        supported: what the metadata of the resource list, for when nothing is demanded.
        configured: what the client's owner wants in any case.
        before: what was asked for before at the same authorization server, so that nothing is lost by asking again.
    """
    if challenged or before:
        return union(configured, before, challenged)
    return union(configured) if configured else union(supported or ())


def with_offline(scopes: tuple[str, ...], offered: tuple[str, ...] | None) -> tuple[str, ...]:
    """Add ``offline_access`` where the authorization server lists it (2026-07-28, refresh tokens).

    Not where no scope is asked for: the server chooses then, and naming one alone would ask for less.
    """
    return union(scopes, (OFFLINE,)) if scopes and offered and OFFLINE in offered else scopes


def missing(challenged: tuple[str, ...], before: tuple[str, ...]) -> tuple[str, ...]:
    """What is demanded and was not asked for yet: without any, asking again would bring the same token."""
    return tuple(scope for scope in challenged if scope not in before)
