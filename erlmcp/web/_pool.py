"""The pool: requests to any origin, over connections that are kept."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from twisted.internet.defer import Deferred, succeed
from twisted.internet.ssl import optionsForClientTLS

from erlmcp.timing import Wheel
from erlmcp.web._carrying import Connection, Flushing
from erlmcp.web._heads import fault_in
from erlmcp.web._lane import Lane
from erlmcp.web._options import Http2, Options, Tls
from erlmcp.web._ticket import Ticket
from erlmcp.web._types import Ongoing, Origin, Receiver, WebError, WebRequest

_CONTEXTS: Final = 256
_BESIDE: Final = 4
"""Connections to one origin for what is urgent, beside those that are all taken."""


class Pool:
    """Sends requests over connections that it makes, keeps, and closes.

    Args:
        reactor: connects, resolves names, and calls later.
        http2: ``alpn``: what TLS agrees on, and HTTP/1.1 without TLS. ``never``. ``prior_knowledge``: always, without
            TLS too (RFC 9113, 3.3).
        tls: what is asked of TLS.
        unix: the path of a socket to connect to, whatever the origin.
        admit: called with each address before it is dialled; what it raises rules the address out. The name is
            resolved once, so what is admitted is what is dialled.
        connections_per_origin: at most so many at once.
        streams_per_connection: requests at once on an HTTP/2 connection, if the server takes as many.
        origins: how many there may be at once.
        queue: requests that may wait for a connection, of each origin.
        header_bytes: the bound of an answer's head.
        connect_timeout: seconds for a connection with all that belongs to it: the name, each address, TLS.
        response_head_timeout: seconds from sending a request to the head of its answer.
        queue_timeout: seconds that a request may wait for its turn.
        idle: seconds after which a connection that carries nothing is closed.
        ping: seconds of silence after which an HTTP/2 server with requests under way is asked whether it is there;
            as many more without an answer end the connection.

    Raises:
        ValueError: an argument that makes no sense.
    """

    def __init__(
        self,
        reactor: Any,
        *,
        http2: Http2 = "alpn",
        tls: Tls | None = None,
        unix: str | None = None,
        admit: Callable[[str], None] | None = None,
        connections_per_origin: int = 32,
        streams_per_connection: int = 100,
        origins: int = 1024,
        queue: int = 10_000,
        header_bytes: int = 64 * 1024,
        connect_timeout: float = 10.0,
        response_head_timeout: float = 300.0,
        queue_timeout: float = 60.0,
        idle: float = 90.0,
        ping: float = 30.0,
    ) -> None:
        self.reactor = reactor
        self.options = Options(
            http2=http2,
            tls=tls or Tls(),
            unix=unix,
            admit=admit,
            connections_per_origin=connections_per_origin,
            streams_per_connection=streams_per_connection,
            origins=origins,
            queue=queue,
            header_bytes=header_bytes,
            connect_timeout=connect_timeout,
            response_head_timeout=response_head_timeout,
            queue_timeout=queue_timeout,
            idle=idle,
            ping=ping,
        )
        self.wheel = Wheel(reactor)
        self._lanes: dict[Origin, Lane] = {}
        self._beside: dict[Origin, Lane] = {}  # for what is urgent, where a lane is full
        self._few = replace(
            self.options, connections_per_origin=min(_BESIDE, self.options.connections_per_origin)
        )
        self._contexts: dict[str, Any] = {}
        self._unflushed: dict[Flushing, None] = {}
        self._flushing: Any = None
        self._closed = False
        self._closing: list[Deferred[None]] = []

    def send(
        self, origin: Origin, request: WebRequest, receiver: Receiver, *, urgent: bool = False
    ) -> Ongoing:
        """Send a request.

        Args:
            origin: where to.
            request: what is sent.
            receiver: hears of it.
            urgent: it does not wait behind others, which may be waiting for it themselves: where no connection is free
                for them it goes over a few of its own.

        Returns:
            the handle of the request; `receiver` hears of it, and never before this has returned.
        """
        lane = self._lanes.get(origin)
        fault = fault_in(request)
        if fault is not None or self._closed or (lane is None and len(self._lanes) >= self.options.origins):
            if fault is None:
                fault = (
                    "the pool is closed"
                    if self._closed
                    else f"more than {self.options.origins} origins at once"
                )
            return self._refuse(origin, request, receiver, fault)
        if lane is None:
            lane = self._lanes[origin] = Lane(self, origin)
        elif urgent and lane.waiting:
            lane = self._beside.get(origin) or self._beside.setdefault(origin, Lane(self, origin, self._few))
        if len(lane.waiting) >= self.options.queue:
            return self._refuse(origin, request, receiver, f"{self.options.queue} requests wait already")
        ticket = Ticket(request, receiver, lane)
        lane.submit(ticket)
        return ticket

    def close(self) -> Deferred[None]:
        """End all connections, and fail what is under way; fires when the last one has gone. It is used no more."""
        self._closed = True
        for lane in (*self._lanes.values(), *self._beside.values()):
            lane.close()
        if not self._lanes and not self._beside:
            self._stop()
            return succeed(None)
        done: Deferred[None] = Deferred()
        self._closing.append(done)
        return done

    @property
    def connections(self) -> list[Connection]:
        """Those that are there, of all origins."""
        lanes = (*self._lanes.values(), *self._beside.values())
        return [connection for lane in lanes for connection in lane.connections]

    @property
    def waiting(self) -> int:
        """How many requests wait for a connection."""
        return sum(len(lane.waiting) for lane in (*self._lanes.values(), *self._beside.values()))

    # What lanes call

    def context_for(self, host: str) -> Any:
        """Makes TLS connections to `host`. To read what the platform trusts takes milliseconds, so it is kept."""
        context = self._contexts.get(host)
        if context is None:
            tls = self.options.tls
            offers = {"alpn": [b"h2", b"http/1.1"], "never": [b"http/1.1"], "prior_knowledge": [b"h2"]}
            context = optionsForClientTLS(
                tls.server_name or host,
                trustRoot=tls.trust,
                clientCertificate=tls.certificate,
                acceptableProtocols=offers[self.options.http2],
            )
            if len(self._contexts) >= _CONTEXTS:
                del self._contexts[next(iter(self._contexts))]
            self._contexts[host] = context
        return context

    def flush_soon(self, connection: Flushing) -> None:
        """Let a connection write what it has gathered, once for all that is sent in this turn of the reactor."""
        self._unflushed[connection] = None
        if self._flushing is None:
            self._flushing = self.reactor.callLater(0, self._flush)

    def emptied(self, lane: Lane) -> None:
        """There is nothing left on a lane."""
        for lanes in (self._lanes, self._beside):
            if lanes.get(lane.origin) is lane:
                del lanes[lane.origin]
        if self._closed and not self._lanes and not self._beside:
            self._stop()

    def _flush(self) -> None:
        self._flushing = None
        unflushed, self._unflushed = self._unflushed, {}
        for connection in unflushed:
            connection.flush()

    def _stop(self) -> None:
        self.wheel.stop()
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None
        self._unflushed.clear()
        waiting, self._closing = self._closing, []
        for done in waiting:
            done.callback(None)

    def _refuse(self, origin: Origin, request: WebRequest, receiver: Receiver, fault: str) -> Ongoing:
        ticket = Ticket(request, receiver, _NOWHERE)
        self.reactor.callLater(0, ticket.fail, WebError(f"{origin}: {fault}", unsent=True))
        return ticket


class _Nowhere:
    """Where a request waits that is not sent at all."""

    def withdraw(self, ticket: Ticket) -> None:
        """Nothing has to be done: nobody hears of it any more."""


_NOWHERE: Final = _Nowhere()
