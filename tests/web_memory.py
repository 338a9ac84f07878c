"""The HTTP client without sockets: a pool on a memory reactor, receivers that write down, a server to pump to."""

from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure

from erlmcp.web import Origin, Pool, WebError, WebRequest
from tests.web_servers import TwoFactory, TwoServer

ORIGIN = Origin("http", "192.0.2.1", 80)
POST = WebRequest(b"POST", b"/mcp", ((b"content-type", b"application/json"),), b"{}")
GET = WebRequest(b"GET", b"/")
HEAD = WebRequest(b"HEAD", b"/")


class Told:
    """A receiver that writes down what it hears."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.parts: list[bytes] = []
        self.ends: list[Any] = []
        self.ongoing: Any = None
        self.when_done: Any = None
        self.when_head: Any = None
        self.when_body: Any = None

    def head(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        assert not self.ends
        assert not self.status, "a second head"
        self.status = status
        self.headers = headers
        if self.when_head:
            self.when_head()

    def body(self, data: bytes) -> None:
        assert self.status
        assert not self.ends
        assert data
        self.parts.append(data)
        if self.when_body:
            self.when_body()

    def done(self) -> None:
        self.ends.append("done")
        if self.when_done:
            self.when_done()

    def failed(self, error: WebError) -> None:
        assert isinstance(error, WebError)
        self.ends.append(error)

    @property
    def text(self) -> bytes:
        return b"".join(self.parts)

    @property
    def error(self) -> WebError:
        assert len(self.ends) == 1, self.ends
        assert isinstance(self.ends[0], WebError), self.ends
        return self.ends[0]


class Transport(StringTransport):
    """A transport that says how it was ended, and takes bytes only until then."""

    aborted = False

    def abortConnection(self) -> None:
        self.aborted = True
        self.disconnecting = True

    def loseConnection(self) -> None:
        self.disconnecting = True


class Line:
    """One connection of the pool's, without a server."""

    def __init__(self, protocol: Any) -> None:
        self.transport = Transport()
        self.protocol = protocol
        protocol.makeConnection(self.transport)

    def taken(self) -> bytes:
        """What the client has written since."""
        data = self.transport.value()
        self.transport.clear()
        return data

    def say(self, data: bytes) -> None:
        self.protocol.dataReceived(data)

    def end(self, error: Exception | None = None) -> None:
        self.protocol.connectionLost(Failure(error or ConnectionDone()))


class Memory:
    """A pool on a memory reactor."""

    def __init__(self, **options: Any) -> None:
        self.reactor = MemoryReactorClock()
        self.pool = Pool(self.reactor, **options)
        self.dialled = 0
        self.lines: list[Line] = []

    def send(self, request: WebRequest = POST, origin: Origin = ORIGIN, told: Told | None = None) -> Told:
        told = told or Told()
        told.ongoing = self.pool.send(origin, request, told)
        return told

    def advance(self, seconds: float) -> None:
        """Let time pass, in steps that a wheel can follow."""
        while seconds > 0:
            self.reactor.advance(min(seconds, 0.5))
            seconds -= 0.5

    def turn(self) -> None:
        self.reactor.advance(0)

    def dials(self) -> list[Any]:
        """The connections that were asked for since."""
        self.turn()
        clients = self.reactor.tcpClients[self.dialled :]
        self.dialled = len(self.reactor.tcpClients)
        return clients

    def accept(self) -> list[Line]:
        """Let all connections that were asked for be there."""
        made = []
        for _, _, factory, _, _ in self.dials():
            made.append(Line(factory.buildProtocol(None)))
        self.lines += made
        return made

    def only(self) -> Line:
        (line,) = self.accept()
        return line

    def server(self, line: Line, factory: TwoFactory | None = None) -> "Spoken":
        return Spoken(self, line, factory or TwoFactory())


class Spoken:
    """A line with an HTTP/2 server at its other end."""

    def __init__(self, memory: Memory, line: Line, factory: TwoFactory) -> None:
        self.memory = memory
        self.line = line
        self.factory = factory
        self.protocol: TwoServer = factory.buildProtocol(None)
        self.transport = Transport()
        self.protocol.makeConnection(self.transport)

    def pump(self) -> None:
        """Carry bytes both ways until there are none."""
        while True:
            self.memory.turn()
            there = self.line.taken()
            if there:
                self.protocol.dataReceived(there)
            back = self.transport.value()
            self.transport.clear()
            if back:
                self.line.say(back)
            if not (there or back):
                return

    def say(self) -> None:
        """Send what the server's own h2 has gathered."""
        self.protocol.flush()
        self.pump()
