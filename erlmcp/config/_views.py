"""``[[server_view]]``: what part of everything a listener, or a path of one, shows. And who shows it."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from erlmcp.config._lines import Path
from erlmcp.config._model import ListenSettings, ViewSettings
from erlmcp.config._problems import nearest
from erlmcp.config._shape import check_table
from erlmcp.config._sources import Merged, spell

Listeners = Sequence[tuple[Path, ListenSettings | None]]


def read_views(tables: Sequence[tuple[Path, Any]], merged: Merged) -> list[ViewSettings]:
    """The views that are right; what is wrong with the others is noted.

    Args:
        tables: the tables, each with its path.
        merged: where problems go.
    """
    found: dict[str, ViewSettings] = {}
    for path, table in tables:
        before = len(merged.problems)
        values = check_table(ViewSettings, table, path, merged, without=("key",))
        if len(merged.problems) != before:
            continue
        view = ViewSettings(**values, key=spell(path))
        if view.name in found:
            wrong = f"{found[view.name].key} is named {view.name!r} too"
            merged.problem((*path, "name"), wrong, "names are unique")
        found.setdefault(view.name, view)
    return list(found.values())


def check_shown(listen: Listeners, tables: Sequence[tuple[Path, Any]], merged: Merged) -> None:
    """Note each listener, and each path of one, that is to show a view which does not exist.

    Args:
        listen: the listeners.
        tables: those of the views, right or not: a mistake in one is not also one of who shows it.
        merged: where problems go.
    """
    names = [table["name"] for _, table in tables if isinstance(table, dict) and "name" in table]
    known = [name for name in names if isinstance(name, str)]
    for path, one in listen:
        if one is None:
            continue
        if one.view is not None:
            _check_name(one.view, (*path, "view"), known, merged)
        for place, name in views_by_path(one).items():
            _check_name(name, (*path, "views", place), known, merged)


def views_by_path(one: ListenSettings) -> Mapping[str, str]:
    """Path -> name of the view that a listener shows there; empty where its transport has no paths."""
    found: Mapping[str, str] = getattr(one.options, "views", None) or {}
    return found


def _check_name(name: str, path: Path, known: Collection[str], merged: Merged) -> None:
    if name not in known:
        right = nearest(name, known) if known else "there is no [[server_view]] at all"
        merged.problem(path, f"no [[server_view]] is named {name!r}", right)
