"""Which resources somebody wants to hear of, told to those backends that must ask for it elsewhere."""

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

from erlmcp.interfaces import IFollowing


class Followed:
    """One resource that is followed, until `end`.

    Attributes:
        uri: the resource.
        backend: who answers it; None while nobody does.
    """

    __slots__ = ("_all", "_inner", "backend", "uri")

    def __init__(self, uri: str, everything: dict["Followed", None]) -> None:
        self.uri = uri
        self.backend: Any = None
        self._inner: IFollowing | None = None
        self._all = everything

    def attach(self, backend: Any) -> None:
        """This backend answers it from now on; None for nobody."""
        inner, self._inner = self._inner, None
        if inner is not None:
            inner.end()
        self.backend = backend
        follow: Callable[[str], IFollowing] | None = getattr(backend, "follow", None)
        if follow is not None:
            self._inner = follow(self.uri)

    def ready(self) -> "Deferred[None] | None":
        """See `IFollowing`."""
        return None if self._inner is None else self._inner.ready()

    def end(self) -> None:
        """See `IFollowing`."""
        self._all.pop(self, None)
        self.attach(None)


class Following:
    """All that is followed in a catalog.

    Args:
        answers: gives the backend that answers a URI, or None.
    """

    __slots__ = ("_all", "_answers")

    def __init__(self, answers: Callable[[str], Any]) -> None:
        self._all: dict[Followed, None] = {}
        self._answers = answers

    def follow(self, uri: str) -> Followed:
        """Follow a resource."""
        one = Followed(uri, self._all)
        self._all[one] = None
        one.attach(self._answers(uri))
        return one

    def gone(self, backend: Any) -> None:
        """A backend is offered no longer: what it answered may be another's."""
        for one in list(self._all):
            if one.backend is backend:
                one.attach(self._answers(one.uri))

    def come(self) -> None:
        """There is more: what nobody answered may be answered now."""
        for one in list(self._all):
            if one.backend is None:
                backend = self._answers(one.uri)
                if backend is not None:
                    one.attach(backend)
