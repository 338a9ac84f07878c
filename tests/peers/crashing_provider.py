"""A provider whose backend can be made to fail as a whole, and a tool that takes a listener's port away."""

from collections.abc import Mapping
from typing import Any

from zope.interface import implementer

from erlmcp import Provider
from erlmcp.interfaces import IBackend, IProvider


@implementer(IBackend)
class Fragile:
    """A backend that raises what it should answer."""

    name = "fragile"

    def __init__(self, generation: int) -> None:
        self._inner = inner = Provider(self.name)

        @inner.tool
        async def generation_of_backend() -> str:
            """Which one of those that were made this is."""
            return str(generation)

        @inner.tool
        async def crash() -> str:
            """Never reached."""
            return ""

    def definitions(self) -> Any:
        return self._inner.definitions()

    def watch(self, watcher: Any) -> Any:
        return self._inner.watch(watcher)

    def dispatch(self, request: Any) -> Any:
        if request.name == "crash":
            raise RuntimeError("the state of this backend is lost")
        return self._inner.dispatch(request)


@implementer(IProvider)
class FragileProvider:
    """Counts what it makes."""

    name = "fragile"

    def __init__(self) -> None:
        self.made = 0

    def backend(self, options: Mapping[str, Any]) -> Fragile:
        self.made += 1
        return Fragile(self.made)


provider = FragileProvider()
saboteur = Provider("saboteur")


@saboteur.tool
async def lose_port(port: int) -> str:
    """Close a listening port behind the daemon's back, as the reactor does when `accept` fails for good."""
    from twisted.internet import reactor
    from twisted.internet.error import ConnectionLost
    from twisted.python.failure import Failure

    everything: Any = reactor
    for reader in everything.getReaders():
        if getattr(reader, "_realPortNumber", None) == port:
            reader.stopReading()
            reader.connectionLost(Failure(ConnectionLost("sabotage")))
            return "lost"
    return "not found"


@saboteur.tool
async def fail(secret: str) -> str:
    """Raise what nobody expected."""
    raise KeyError(secret)


@saboteur.tool
async def echo(text: str) -> str:
    """Give it back."""
    return text
