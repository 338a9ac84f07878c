"""Making a connection: the name resolved once, each address admitted, tried in turn, then TLS; all within one time."""

from collections.abc import Callable
from ipaddress import ip_address
from typing import Any, Final

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    UNIXClientEndpoint,
    wrapClientTLS,
)
from twisted.internet.interfaces import IHandshakeListener, IProtocol, IResolutionReceiver
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure
from zope.interface import implementer

from erlmcp.web._carrying import describe
from erlmcp.web._options import Options
from erlmcp.web._types import Origin, WebError

_STAGGER: Final = 0.3
_ADDRESSES: Final = 16


@implementer(IProtocol, IHandshakeListener)
class _Fresh:
    """A connection that is not ready: TLS has yet to say which HTTP is spoken. Then it only passes things on."""

    def __init__(self, dial: "Dial") -> None:
        self.transport: Any = None
        self._dial: Dial | None = dial
        self._inner: Any = None

    def makeConnection(self, transport: Any) -> None:  # noqa: N802 - Twisted's name
        self.transport = transport
        self.connectionMade()

    def connectionMade(self) -> None:
        """There is a connection, before TLS."""

    def handshakeCompleted(self) -> None:  # noqa: N802 - Twisted's name
        """TLS is there."""
        if self._dial is not None:
            self._dial.shaken(self)

    def become(self, inner: Any) -> None:
        """It is ready, and `inner` has it from now on."""
        self._dial = None
        self._inner = inner
        transport = self.transport
        if hasattr(transport, "wrappedProtocol"):
            transport.wrappedProtocol = inner
        else:
            transport.protocol = inner
        inner.makeConnection(transport)

    def dataReceived(self, data: bytes) -> None:
        """Only where the transport did not let itself be handed over."""
        if self._inner is not None:
            self._inner.dataReceived(data)

    def connectionLost(self, reason: Failure) -> None:
        """It did not get that far; or see `dataReceived`."""
        dial, self._dial = self._dial, None
        if dial is not None:
            dial.lost(self, reason)
        elif self._inner is not None:
            self._inner.connectionLost(reason)


class _FreshFactory(Factory):
    noisy = False

    def __init__(self, dial: "Dial") -> None:
        self._dial = dial

    def buildProtocol(self, addr: Any) -> Any:  # noqa: ARG002 - it is who was called
        """A connection of the dial's."""
        return _Fresh(self._dial)


@implementer(IResolutionReceiver)
class _Addresses:
    """Gathers what a name resolves to."""

    def __init__(self, done: Callable[[list[str]], None]) -> None:
        self._found: list[str] = []
        self._done = done

    def resolutionBegan(self, resolutionInProgress: Any) -> None:  # noqa: N802, N803 - Twisted's names
        """It has begun."""

    def addressResolved(self, address: Any) -> None:  # noqa: N802 - Twisted's name
        """One more."""
        if isinstance(address, (IPv4Address, IPv6Address)) and len(self._found) < _ADDRESSES:
            self._found.append(address.host)

    def resolutionComplete(self) -> None:  # noqa: N802 - Twisted's name
        """That is all."""
        self._done(self._found)


class Dial:
    """One attempt to get a connection.

    Args:
        reactor: connects, resolves, and calls later.
        origin: where to.
        options: the pool's.
        context: makes TLS for `origin`; None for a plain connection.
        ready: called with the way to make a protocol of the connection, and the protocol that TLS agreed on.
        failed: called instead, with the reason.
    """

    def __init__(
        self,
        reactor: Any,
        origin: Origin,
        options: Options,
        context: Any,
        ready: Callable[["Dial", Callable[[Any], None], bytes | None], None],
        failed: Callable[["Dial", WebError], None],
    ) -> None:
        self._reactor = reactor
        self._origin = origin
        self._options = options
        self._context = context
        self._ready = ready
        self._failed = failed
        self._untried: list[str] = []
        self._attempts: dict[Deferred[Any], None] = {}
        self._chosen: _Fresh | None = None
        self._last = ""
        self._over = False
        self._deadline: Any = None
        self._next: Any = None

    def start(self) -> None:
        """Begin. `ready` or `failed` follows, later."""
        self._deadline = self._reactor.callLater(self._options.connect_timeout, self._late)
        self._next = self._reactor.callLater(0, self._begin)

    def _begin(self) -> None:
        self._next = None
        options = self._options
        if options.unix is not None:
            self._attempt(UNIXClientEndpoint(self._reactor, options.unix, timeout=options.connect_timeout))
            return
        host = self._origin.host
        try:
            ip_address(host)
        except ValueError:
            self._reactor.nameResolver.resolveHostName(_Addresses(self._resolved), host, self._origin.port)
        else:
            self._resolved([host])

    def cancel(self) -> None:
        """Nobody wants it any more; neither `ready` nor `failed` follows."""
        if not self._over:
            self._finish()
            if self._chosen is not None:
                self._chosen.transport.abortConnection()

    def shaken(self, fresh: _Fresh) -> None:
        """TLS is there."""
        if fresh is self._chosen and not self._over:
            agreed = fresh.transport.negotiatedProtocol
            if self._options.http2 == "prior_knowledge" and agreed != b"h2":
                self._fail("TLS is there, but the server does not agree to HTTP/2")
            else:
                self._finish()
                self._ready(self, fresh.become, agreed)

    def lost(self, fresh: _Fresh, reason: Failure) -> None:
        """A connection has ended before it was ready."""
        if fresh is self._chosen and not self._over:
            self._fail(f"TLS failed{describe(reason)}" if self._context else f"it closed{describe(reason)}")

    # One address after the other; the next one is not kept waiting by one that says nothing (RFC 8305, much reduced)

    def _resolved(self, found: list[str]) -> None:
        if self._over:
            return
        if not found:
            self._fail("the name does not resolve to an address")
            return
        admit = self._options.admit
        refused = ""
        for address in found:
            try:
                if admit is not None:
                    admit(address)
            except Exception as error:  # noqa: BLE001 - whatever it raises, the address is not dialled
                refused = f"{address} is not allowed: {error}"
            else:
                self._untried.append(address)
        if self._untried:
            self._try_next()
        else:
            self._fail(refused)

    def _try_next(self) -> None:
        self._next = None
        address = self._untried.pop(0)
        kind = TCP6ClientEndpoint if ":" in address else TCP4ClientEndpoint
        if self._untried:
            self._next = self._reactor.callLater(_STAGGER, self._try_next)
        self._attempt(kind(self._reactor, address, self._origin.port, timeout=self._options.connect_timeout))

    def _attempt(self, endpoint: Any) -> None:
        if self._context is not None:
            endpoint = wrapClientTLS(self._context, endpoint)
        attempt: Deferred[Any] = endpoint.connect(_FreshFactory(self))
        self._attempts[attempt] = None
        attempt.addCallbacks(self._connected, self._refused, callbackArgs=(attempt,), errbackArgs=(attempt,))

    def _connected(self, fresh: _Fresh, attempt: Deferred[Any]) -> None:
        # The others are cancelled, so that this is the only one.
        self._attempts.pop(attempt, None)
        self._chosen = fresh
        self._stop_trying()
        if self._context is None:
            self._finish()
            self._ready(self, fresh.become, None)

    def _refused(self, reason: Failure, attempt: Deferred[Any]) -> None:
        self._attempts.pop(attempt, None)
        if self._over or self._chosen is not None:
            return
        self._last = describe(reason)
        if self._untried:
            if self._next is not None:
                self._next.cancel()
                self._next = None
            self._try_next()
        elif not self._attempts:
            self._fail(f"it cannot be reached{self._last}")

    def _late(self) -> None:
        self._deadline = None
        what = "TLS was not there" if self._chosen is not None else "no connection"
        self._fail(f"{what} within {self._options.connect_timeout:g} s{self._last}")

    # The end

    def _fail(self, why: str) -> None:
        self._finish()
        if self._chosen is not None:
            self._chosen.transport.abortConnection()
        where = f" over {self._options.unix}" if self._options.unix is not None else ""
        self._failed(self, WebError(f"{self._origin}{where}: {why}", unsent=True))

    def _finish(self) -> None:
        self._over = True
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        self._stop_trying()

    def _stop_trying(self) -> None:
        self._untried.clear()
        if self._next is not None:
            self._next.cancel()
            self._next = None
        for attempt in list(self._attempts):
            attempt.cancel()
