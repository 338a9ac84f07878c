"""A provider as a process of its own has it, which a daemon has started for it alone (``isolation = "process"``)."""

from collections.abc import Awaitable
from typing import Any, Final

from zope.interface import implementer

from erlmcp.gateway import tell
from erlmcp.interfaces import Definitions, IBackend, Outcome, Request

LONGEST: Final = 86400.0
"""Seconds for a call: the daemon keeps the limit, and ends the process if that is what it takes."""
_KINDS: Final = ("tools", "prompts", "resources", "templates")


@implementer(IBackend)
class Isolated:
    """A backend that tells what is not on the wire between strangers; else it is as it was.

    Args:
        backend: the provider.
    """

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self._seen: Definitions | None = None
        self._told = Definitions()
        self._originals: dict[int, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def definitions(self) -> Definitions:
        """See `IBackend`."""
        seen: Definitions = self._backend.definitions()
        if seen is not self._seen:
            self._seen = seen
            self._told = tell(seen)
            self._originals = {
                id(told): getattr(seen, kind)[name]
                for kind in _KINDS
                for name, told in getattr(self._told, kind).items()
            }
        return self._told

    def dispatch(self, request: Request) -> Outcome | Awaitable[Outcome]:
        """See `IBackend`. The backend knows its own definitions, not what is told of them."""
        request.target = self._originals.get(id(request.target), request.target)
        outcome: Outcome | Awaitable[Outcome] = self._backend.dispatch(request)
        return outcome
