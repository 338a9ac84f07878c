"""The servers of a configuration: one of everything, and one for each view, all with the same gates and engine."""

import re
from collections.abc import Callable, Iterator, Sequence
from fnmatch import translate
from typing import Any

import msgspec

from erlmcp.catalog import Catalog, NameCollision, SearchAuthorize, SearchCatalog, ValidateGate
from erlmcp.config import ListenSettings, Settings, ViewSettings, nearest
from erlmcp.interfaces import IAuthorize
from erlmcp.server import Gates, Server, Views
from erlmcp.tap._standing import Standing

Chosen = Callable[[str], bool]


class _Shown(msgspec.Struct, frozen=True):
    """One way of showing what there is.

    Attributes:
        scope: unique; empty for everything, plainly. For a view as it is, its name.
        view: the view; None for everything.
        search: whether tools are searched, not listed.
        key: how problems name what asks for this.
    """

    scope: str
    view: ViewSettings | None
    search: bool
    key: str


class ViewMaker:
    """Makes the servers.

    Args:
        settings: the configuration.
        backends: what there is, as the catalog of everything knows it.
        catalog: the catalog of everything.
        gates: of the server of everything; those that judge by names and arguments are replaced for each view.
        make: makes a server of ``name``, ``title``, ``instructions``, ``catalog``, ``gates`` and ``scope``.
        reactor: what everything runs on.
        traced: puts what begins spans around gate 3.

    Attributes:
        problems: keys, each with what is wrong about its value and what would be right.
        catalogs: those of the servers.
    """

    def __init__(
        self,
        settings: Settings,
        backends: Sequence[Standing],
        catalog: Catalog,
        gates: Gates,
        make: Callable[..., Server],
        reactor: Any,
        traced: Callable[[IAuthorize], IAuthorize] = lambda gate: gate,
    ) -> None:
        self.problems: list[tuple[str, str, str]] = []
        self.catalogs: list[Catalog] = []
        self._settings = settings
        self._backends = {one.name: one for one in backends}
        self._catalog = catalog
        self._gates = gates
        self._make = make
        self._reactor = reactor
        self._traced = traced

    def views(self) -> Views:
        """The servers; wherever something is wrong, with less than was asked for."""
        for view in self._settings.views:
            self._check_backends(view)
        main = self._server(_Shown(scope="", view=None, search=False, key=""), self._catalog)
        wanted = {one.scope: one for one in _wanted(self._settings)}
        return Views(main, {scope: self._server(one, self._offered(one)) for scope, one in wanted.items()})

    def _server(self, shown: _Shown, catalog: Catalog) -> Server:
        self.catalogs.append(catalog)
        server, view, gates = self._settings.server, shown.view, self._gates
        authorize = SearchAuthorize(gates.authorize) if shown.search else gates.authorize
        return self._make(
            name=server.name if view is None else view.name,
            title=server.title if view is None else view.title,
            instructions=server.instructions if view is None else view.instructions,
            catalog=catalog,
            gates=msgspec.structs.replace(
                gates, authorize=self._traced(authorize), validate=ValidateGate(catalog)
            ),
            scope=shown.scope,
        )

    def _offered(self, shown: _Shown) -> Catalog:
        view = shown.view
        backends = self._chosen_backends(view)
        chosen = None if view is None else globs(view.allow, view.deny)
        if not shown.search:
            return Catalog(backends, chosen)
        try:
            return SearchCatalog(backends, self._gates.authorize, self._reactor, chosen)
        except NameCollision as problem:
            self.problems.append((shown.key, str(problem), ""))
            return Catalog()

    def _chosen_backends(self, view: ViewSettings | None) -> list[Standing]:
        if view is None or view.backends is None:
            return list(self._backends.values())
        return [self._backends[name] for name in dict.fromkeys(view.backends) if name in self._backends]

    def _check_backends(self, view: ViewSettings) -> None:
        # Where there is none at all, that is what is wrong, and has been said.
        for name in view.backends or () if self._backends else ():
            if name not in self._backends:
                wrong = f"no provider or upstream is named {name!r}"
                self.problems.append((f"{view.key}.backends", wrong, nearest(name, self._backends)))


def scope_of(settings: Settings, one: ListenSettings) -> str:
    """The scope of what a listener shows: that of one of the servers that `ViewMaker.views` makes."""
    return _shown_by(settings, one).scope


def globs(allow: Sequence[str], deny: Sequence[str]) -> Chosen | None:
    """Which names are chosen by globs; None where all are.

    Args:
        allow: a name must match one of these.
        deny: and none of these.
    """
    if "*" in allow and not deny:
        return None
    allowed, denied = _one_of(allow), _one_of(deny)
    return lambda name: allowed(name) is not None and denied(name) is None


def _one_of(patterns: Sequence[str]) -> Callable[[str], Any]:
    # Without a pattern this is one that nothing matches.
    return re.compile("|".join(map(translate, patterns)) or r"(?!)").match


def _wanted(settings: Settings) -> Iterator[_Shown]:
    """All that somebody may want to be shown, but for everything as it is."""
    for view in settings.views:
        yield _Shown(view.name, view, view.expose == "search", f"{view.key}.expose")
    for one in settings.listen:
        shown = _shown_by(settings, one)
        if shown.scope:
            yield shown


def _shown_by(settings: Settings, one: ListenSettings) -> _Shown:
    view = next((view for view in settings.views if view.name == one.view), None)
    usual = "all" if view is None else view.expose
    name = "" if view is None else view.name
    if one.expose in (None, usual):
        return _Shown(name, view, usual == "search", "" if view is None else f"{view.key}.expose")
    # No view has a name with a question mark in it.
    return _Shown(f"{name}?{one.expose}", view, one.expose == "search", f"{one.key}.expose")
