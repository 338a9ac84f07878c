"""All backends as one: who answers a name, lists in pages, what the server can do, and word of changes."""

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from erlmcp.catalog._errors import NameCollision
from erlmcp.catalog._following import Followed, Following
from erlmcp.catalog._watchers import Watcher, Watchers
from erlmcp.interfaces import Change, Definitions, IBackend

_log = Logger(namespace="erlmcp.catalog")

Found = tuple[Any, Any]
_TABLES = {"tools/call": "tools", "prompts/get": "prompts", "resources/read": "resources"}
_KINDS = ("tools", "prompts", "resources", "templates")


class _Merged:
    """One consistent view of what all backends offer. Replaced as a whole when one of them changes."""

    __slots__ = ("capabilities", "keys", "tables", "templates")

    def __init__(
        self, offers: list[tuple[Any, Definitions]], chosen: Callable[[str], bool] | None = None
    ) -> None:
        self.tables: dict[str, dict[str, Found]] = {kind: {} for kind in _KINDS}
        for backend, definitions in offers:
            for kind in _KINDS:
                for key, definition in getattr(definitions, kind).items():
                    if chosen is None or chosen(key):
                        self.tables[kind].setdefault(key, (backend, definition))
        self.capabilities: dict[str, Any] = {}
        self.keys = {kind: sorted(table) for kind, table in self.tables.items()}
        # the template with the longest fixed beginning says most about a URI, so it is asked first
        order = sorted(self.keys["templates"], key=lambda key: (-len(key.partition("{")[0]), key))
        self.templates = [(definition.match, (backend, definition)) for backend, definition in map(
            self.tables["templates"].__getitem__, order
        )]  # fmt: skip


class Catalog:
    """What a server offers.

    Args:
        backends: providers and upstreams, in configuration order.
        chosen: which names of tools and prompts, and which URIs, are offered at all; None for all of them.

    Raises:
        NameCollision: two of them offer the same tool, prompt, resource or template, or have the same name.
    """

    def __init__(
        self, backends: Iterable[IBackend] = (), chosen: Callable[[str], bool] | None = None
    ) -> None:
        self._chosen = chosen
        self._backends: list[Any] = []
        self._endings: list[Callable[[], None]] = []
        self._watchers = Watchers()
        self._following = Following(self._answers)
        self._merged: _Merged | None = None
        self._declared: set[str] = set()
        for backend in backends:
            self.add_backend(backend)

    @property
    def backends(self) -> tuple[Any, ...]:
        """The backends, in order."""
        return tuple(self._backends)

    def add_backend(self, backend: IBackend) -> None:
        """Offer what the backend offers, too.

        Raises:
            NameCollision: something of it is offered already; nothing of it is offered then.
        """
        for other in self._backends:
            if other.name == backend.name:
                raise NameCollision(f"two backends are called {other.name!r}; give one of them another name")
            _check_collisions(other, backend)
        self._backends.append(backend)
        self._endings.append(backend.watch(lambda change: self._changed(backend, change)))
        self._merged = None
        self._following.come()
        self._announce(backend)

    def find(self, method: str, name: str) -> Found | None:
        """Who answers ``tools/call``, ``prompts/get`` or ``resources/read`` of this name: (backend, definition)."""
        merged = self._merged or self._merge()
        found = merged.tables[_TABLES[method]].get(name)
        # What a template makes a URI of, its own name says nothing about.
        chosen = self._chosen
        if found is None and method == "resources/read" and (chosen is None or chosen(name)):
            for match, target in merged.templates:
                if match(name) is not None:
                    return target
            return self._claimed(name)
        return found

    def _claimed(self, uri: str) -> Found | None:
        """Whose resource it is that nobody lists; see `IClaims`."""
        for backend in self._backends:
            claim: Callable[[str], Any] | None = getattr(backend, "claim", None)
            definition = None if claim is None else claim(uri)
            if definition is not None:
                return backend, definition
        return None

    def coming(self, method: str, name: str) -> Sequence[Deferred[None]]:
        """What to wait for before it is said that nobody answers a name; see `IHeardLater`."""
        if name and self._chosen is not None and not self._chosen(name):
            return ()
        asked = [backend.may_have(method, name) for backend in self._backends if hasattr(backend, "may_have")]
        return [waiting for waiting in asked if waiting is not None]

    def find_reference(self, kind: str, name: str) -> Found | None:
        """Who completes arguments of a prompt (``ref/prompt``), or of a template or resource (``ref/resource``)."""
        merged = self._merged or self._merge()
        if kind == "ref/prompt":
            return merged.tables["prompts"].get(name)
        return merged.tables["templates"].get(name) or self.find("resources/read", name)

    def page(
        self, kind: str, after: str | None, size: int, shows: Callable[[str], bool] | None = None
    ) -> tuple[list[msgspec.Raw], str | None]:
        """Part of a list, in the order of names.

        Args:
            kind: ``tools``, ``prompts``, ``resources`` or ``templates``.
            after: the name that the page before ended with, None for the first page.
            size: the most entries, at least 1.
            shows: which names the caller may see; None for all.

        Returns:
            The entries as they go on the wire, and what to pass as `after` for the next page, None at the end.
        """
        merged = self._merged or self._merge()
        keys, table = merged.keys[kind], merged.tables[kind]
        found: list[msgspec.Raw] = []
        last: str | None = None
        for place in range(0 if after is None else bisect_right(keys, after), len(keys)):
            key = keys[place]
            if shows is not None and not shows(key):
                continue
            if len(found) == size:
                return found, last
            found.append(table[key][1].wire)
            last = key
        return found, None

    def capabilities(self) -> dict[str, Any]:
        """The ``ServerCapabilities`` of a ``DiscoverResult``: what is offered, or has been since the start.

        The same object as long as nothing has changed; not to be altered.
        """
        return (self._merged or self._merge()).capabilities

    @property
    def instructions(self) -> str:
        """The backends' instructions, one paragraph each."""
        texts = (backend.definitions().instructions for backend in self._backends)
        return "\n\n".join(text for text in texts if text)

    @property
    def ttl_ms(self) -> int:
        """How long merged lists may be thought fresh: what the least of the backends says; 0 while one is stale."""
        offers = [backend.definitions() for backend in self._backends]
        return min((0 if offer.stale else offer.ttl_ms for offer in offers), default=0)

    @property
    def cache_scope(self) -> str:
        """``private`` if a part is."""
        scopes = {backend.definitions().cache_scope for backend in self._backends}
        return "private" if "private" in scopes else "public"

    @property
    def stale(self) -> dict[str, Definitions]:
        """The backends whose definitions may not be true any more, by name."""
        offers = ((backend.name, backend.definitions()) for backend in self._backends)
        return {name: offer for name, offer in offers if offer.stale}

    def follow(self, uri: str) -> Followed:
        """Somebody wants to hear of a resource's updates: see to it that whoever answers it announces them."""
        return self._following.follow(uri)

    def forget_sessions(self, sessions: Collection[str]) -> None:
        """Clients' sessions have ended: tell the backends that keep anything for them; see `IForgets`."""
        for backend in self._backends:
            forget: Callable[[Collection[str]], None] | None = getattr(backend, "forget_sessions", None)
            if forget is not None:
                forget(sessions)

    def close(self) -> None:
        """Hear no more of the backends, which may be others' as well."""
        while self._endings:
            self._endings.pop()()

    def watch(self, watcher: Watcher) -> Callable[[], None]:
        """Tell `watcher` of each change in any backend; returns what ends the watch."""
        return self._watchers.add(watcher)

    def _changed(self, backend: Any, change: Change) -> None:
        if change.kind != "updated":
            self._merged = None
            self._report_collisions(backend)
        if change.kind == "resources":
            self._following.come()
        self._watchers.tell(change)

    def _answers(self, uri: str) -> Any:
        found = self.find("resources/read", uri)
        return None if found is None else found[0]

    def _announce(self, backend: Any) -> None:
        definitions = backend.definitions()
        for kind in ("tools", "prompts", "resources"):
            if getattr(definitions, kind) or (kind == "resources" and definitions.templates):
                self._watchers.tell(Change(kind))

    def _report_collisions(self, backend: Any) -> None:
        """A collision that comes while running is no reason to end: the backend configured first keeps the name."""
        for other in self._backends:
            if other is not backend:
                try:
                    _check_collisions(other, backend)
                except NameCollision as problem:
                    _log.error("{problem}; the one configured first answers", problem=str(problem))

    def _merge(self) -> _Merged:
        offers = [(backend, backend.definitions()) for backend in self._backends]
        merged = self._merged = _Merged(offers, self._chosen)
        for _, definitions in offers:
            self._declared |= definitions.expected
            self._declared.update(
                name for name in ("completions", "logging", "subscribe") if getattr(definitions, name)
            )
        self._declared.update(kind for kind in ("tools", "prompts") if merged.tables[kind])
        if merged.tables["resources"] or merged.tables["templates"]:
            self._declared.add("resources")
        merged.capabilities = _capabilities(self._declared)
        return merged


def _capabilities(declared: set[str]) -> dict[str, Any]:
    found: dict[str, Any] = {kind: {"listChanged": True} for kind in ("tools", "prompts") if kind in declared}
    if "resources" in declared:
        found["resources"] = {"listChanged": True, "subscribe": "subscribe" in declared}
    found.update((kind, {}) for kind in ("completions", "logging") if kind in declared)
    return found


def _check_collisions(first: Any, second: Any) -> None:
    ours, theirs = first.definitions(), second.definitions()
    for kind in _KINDS:
        table: Mapping[str, Any] = getattr(theirs, kind)
        for key in getattr(ours, kind):
            if key in table:
                raise NameCollision(
                    f"both {first.name!r} and {second.name!r} offer the {kind.removesuffix('s')} {key!r};"
                    " rename it in one of them"
                )
