"""A gateway in memory: a client, a server in front of an upstream, and the upstream, of any eras, on one clock."""

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from erlmcp.client import Client, Target
from erlmcp.gateway._names import Naming
from erlmcp.gateway._upstream import Plan, Upstream
from erlmcp.interfaces import IBackend, Principal
from erlmcp.testing import ChannelWire, Harness, StubServer


class OneWay:
    """The way to a server for everybody; a test may tell principals apart by `contexts`."""

    def __init__(self, target: Target) -> None:
        self.contexts = False
        self._target = target

    def target(self, principal: Principal) -> Target:
        return self._target

    def context(self, principal: Principal) -> str:
        return principal.id if self.contexts else ""

    def close(self) -> Deferred[None]:
        return succeed(None)


class Stage:
    """A whole path.

    Attributes:
        clock: of all of it.
        far: the server behind the gateway; None where a stub is.
        near: the gateway's own server.
        upstream: the backend between them.
        wires: the wires that the gateway made to the far server.
    """

    def __init__(
        self,
        *backends: IBackend,
        stub: StubServer | None = None,
        era: str | None = None,
        linked: bool = False,
        mode: Any = "prefix",
        page_size: int = 100,
        **plan: Any,
    ) -> None:
        self.wires: list[ChannelWire] = []
        self.far: Harness | None = None
        if stub is None:
            self.far = Harness(*backends, page_size=page_size)
            self.clock: Clock = self.far.clock
            target = Target("far", self._wire)
        else:
            self.clock = Clock()
            target = stub.target
        self._linked = linked
        naming = plan.pop("naming", None) or Naming("far", mode)
        self.access = OneWay(target)
        self.upstream = Upstream(
            Plan(name="far", naming=naming, era=era, stream=not linked, **plan), lambda _: self.access
        )
        self.upstream.bind(self.clock)
        self.near = Harness(self.upstream, clock=self.clock)
        self.clients: list[Client] = []

    def _wire(self) -> ChannelWire:
        assert self.far is not None
        wire = ChannelWire(self.far.channel, linked=self._linked, peer="far")
        self.wires.append(wire)
        return wire

    def client(self, era: str | None = None, *, linked: bool = False, **options: Any) -> Client:
        """A client of the gateway."""
        target = Target("near", lambda: ChannelWire(self.near.channel, linked=linked, peer="near"))
        client = Client(target, self.clock, era=era, **options)
        self.clients.append(client)
        return client

    def begin(self) -> None:
        """Let the gateway find out what the upstream offers."""
        self.upstream.start()
        self.clock.advance(0)

    def end(self, result_of: Any) -> None:
        """End everything, and see that nothing is left on the clock."""
        for client in self.clients:
            result_of(client.close())
        result_of(self.upstream.stop())
        self.near.server.stop()
        if self.far is not None:
            self.far.server.stop()
