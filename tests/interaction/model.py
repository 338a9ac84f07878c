"""One requirement of the specification, and the few words that the table is written in."""

from collections.abc import Iterable
from typing import Any, Literal

import msgspec

MUST = "MUST"
MUST_NOT = "MUST NOT"
SHOULD = "SHOULD"
SHOULD_NOT = "SHOULD NOT"
LEVELS = (MUST, MUST_NOT, SHOULD, SHOULD_NOT)

Held = Literal["tested", "elsewhere", "author", "not-served", "otherwise", "later"]


class Requirement(msgspec.Struct, frozen=True):
    """One MUST, MUST NOT, SHOULD or SHOULD NOT that binds a server.

    Attributes:
        id: the page with dots for slashes, a slash, a name within the page.
        page: the page's path under ``docs/specification/2026-07-28``, without its suffix.
        section: the heading that it stands under; empty for the page's introduction.
        level: of `LEVELS`.
        says: what is demanded, in our words.
        held: ``tested``: tests claim the id. ``elsewhere``: the tests named in `by` hold it. ``author``: it binds who
            writes the provider, or runs the daemon. ``not-served``: it is about something that this server does not
            do. ``otherwise``: it is deliberately not followed. ``later``: it is open, and an issue of its own will
            close it.
        by: the full names of tests, for ``elsewhere``.
        why: the reason, for all the others.
    """

    id: str
    page: str
    section: str
    level: str
    says: str
    held: Held
    by: tuple[str, ...] = ()
    why: str = ""


Row = dict[str, Any]


def tested(name: str, level: str, says: str) -> Row:
    """Held by tests that claim the id."""
    return {"id": name, "level": level, "says": says, "held": "tested"}


def elsewhere(name: str, level: str, says: str, *by: str) -> Row:
    """Held by tests of another file; ``tests.`` is added in front of their names."""
    return {
        "id": name,
        "level": level,
        "says": says,
        "held": "elsewhere",
        "by": tuple(f"tests.{one}" for one in by),
    }


def author(name: str, level: str, says: str, why: str) -> Row:
    """Binds who writes the provider or runs the daemon."""
    return {"id": name, "level": level, "says": says, "held": "author", "why": why}


def not_served(name: str, level: str, says: str, why: str) -> Row:
    """Is about something that this server does not do."""
    return {"id": name, "level": level, "says": says, "held": "not-served", "why": why}


def otherwise(name: str, level: str, says: str, why: str) -> Row:
    """Deliberately not followed."""
    return {"id": name, "level": level, "says": says, "held": "otherwise", "why": why}


def later(name: str, level: str, says: str, why: str) -> Row:
    """Open."""
    return {"id": name, "level": level, "says": says, "held": "later", "why": why}


def page(path: str, **sections: Iterable[Row]) -> tuple[Requirement, ...]:
    """The requirements of one page.

    Args:
        path: the page's.
        sections: heading -> rows; ``__`` stands for a space, and ``introduction`` for no heading.
    """
    prefix = path.replace("/", ".")
    found = []
    for heading, rows in sections.items():
        section = "" if heading == "introduction" else heading.replace("__", " ")
        found += [
            Requirement(**{**row, "id": f"{prefix}/{row['id']}", "page": path, "section": section})
            for row in rows
        ]
    return tuple(found)
