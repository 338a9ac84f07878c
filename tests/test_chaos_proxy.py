"""The fault proxy of `tests.chaos`: what it passes on, and how it goes wrong."""

import random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.error import ConnectionLost
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from tests.chaos.proxy import FaultProxy, Mode

TEXT = b"0123456789" * 20


class Echo(Protocol):
    """Says everything again."""

    transport: Any

    def __init__(self, there: set["Echo"]) -> None:
        self.there = there

    def connectionMade(self) -> None:
        self.there.add(self)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self.there.discard(self)

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)


class Caller(Protocol):
    """Sends a text, and keeps what comes."""

    transport: Any

    def __init__(self) -> None:
        self.heard = b""
        self.wanted = -1
        self.enough: Deferred[bytes] = Deferred()
        self.ended: Deferred[BaseException] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.heard += data
        if len(self.heard) >= self.wanted >= 0 and not self.enough.called:
            self.enough.callback(self.heard)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self.ended.callback(reason.value)

    def say(self) -> Deferred[bytes]:
        """Send the text once more; fires when as much has come back."""
        self.wanted = len(self.heard) + len(TEXT)
        self.enough = Deferred()
        self.transport.write(TEXT)
        return self.enough


class ProxyTests(TestCase):
    timeout = 120

    def setUp(self) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.there: set[Echo] = set()
        self.addCleanup(self.settle)
        factory = Factory.forProtocol(lambda: Echo(self.there))  # type: ignore[arg-type]
        port = self.reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.proxy = FaultProxy(reactor, port.getHost().port, random.Random(1))
        self.addCleanup(self.proxy.close)

    async def settle(self) -> None:
        """Wait until the connections behind the proxy have gone too."""
        while self.there:
            await deferLater(self.reactor, 0.01, lambda: None)

    async def call(self) -> Caller:
        caller = Caller()
        there = HostnameEndpoint(self.reactor, "127.0.0.1", self.proxy.port)
        await there.connect(Factory.forProtocol(lambda: caller))  # type: ignore[arg-type]
        return caller

    async def end(self, caller: Caller) -> None:
        caller.transport.loseConnection()
        await caller.ended

    async def test_what_passes(self) -> None:
        for mode in (Mode.FAIR, Mode.SLOW, Mode.BYTEWISE):
            self.proxy.turn(lambda mode=mode: mode)  # type: ignore[misc]
            caller = await self.call()
            self.assertEqual(await caller.say(), TEXT, mode)
            await self.end(caller)

    async def test_well_again(self) -> None:
        caller = await self.call()
        for mode in (Mode.BYTEWISE, Mode.FAIR, Mode.SLOW, Mode.FAIR):
            saying = caller.say()
            self.proxy.turn(lambda mode=mode: mode)  # type: ignore[misc]
            await saying
        self.assertEqual(caller.heard, TEXT * 4)
        await self.end(caller)

    async def test_ends(self) -> None:
        for mode in (Mode.CUT, Mode.RESET, Mode.SPOILT):
            self.proxy.turn(lambda: Mode.FAIR)
            caller = await self.call()
            await caller.say()
            self.proxy.turn(lambda mode=mode: mode)  # type: ignore[misc]
            reason = await caller.ended
            self.assertEqual(isinstance(reason, ConnectionLost), mode is Mode.RESET)
            self.assertEqual(len(caller.heard) > len(TEXT), mode is Mode.SPOILT)

    async def test_half_open(self) -> None:
        """It swallows all; then it can only end."""
        caller = await self.call()
        await caller.say()
        self.proxy.turn(lambda: Mode.SILENT)
        caller.say()
        self.proxy.turn(lambda: Mode.FAIR)
        await caller.ended
        self.assertEqual(caller.heard, TEXT)
        other = await self.call()
        self.assertEqual(await other.say(), TEXT)
        await self.end(other)

    async def test_nobody_there(self) -> None:
        self.proxy._target = 1
        caller = await self.call()
        await caller.ended
        self.assertEqual(self.proxy.relays, {})
