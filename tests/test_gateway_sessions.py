"""What an upstream keeps for a client's own session goes with that session, and no earlier."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from erlmcp import Provider
from erlmcp.gateway import PoolSettings
from erlmcp.interfaces import IForgets
from erlmcp.testing import Harness
from tests.gateway_stage import Stage

ERA = "2025-11-25"


class SessionTests(SynchronousTestCase):
    """A handshake client in front of a handshake upstream, over streams and over what is like HTTP."""

    def stage(self, *, linked: bool, era: str = ERA, **plan: Any) -> Stage:
        self.waiting: list[Deferred[None]] = []
        provider = Provider("far")

        @provider.tool
        async def wait() -> str:
            waiting: Deferred[None] = Deferred()
            self.waiting.append(waiting)
            await waiting
            return "waited"

        @provider.tool
        async def now() -> str:
            return "now"

        stage = Stage(provider, era=era, linked=linked, **plan)
        stage.begin()
        return stage

    def test_ends_with_its_clients(self) -> None:
        """Ended at the upstream too, not left to run out."""
        for linked in (False, True):
            stage = self.stage(linked=linked)
            verifyObject(IForgets, stage.upstream)
            mine, other = (stage.client(ERA, linked=linked) for _ in range(2))
            for client in (mine, other):
                self.assertEqual(self.successResultOf(client.call("far.now")).text, "now")
            self.assertEqual(stage.upstream.leases.count, 3)
            before = [wire.session_id for wire in stage.wires]
            self.successResultOf(mine.close())
            self.assertEqual(stage.upstream.leases.count, 2)
            left = {seat.whose.session for seat in stage.upstream.leases.seats()}
            self.assertEqual(len(left - {""}), 1)
            assert stage.far is not None
            if linked:
                self.assertNotIn(None, before)
                self.assertEqual(len(self.tombstones(stage.far)), 1)
            else:
                self.assertEqual([wire._inbox is None for wire in stage.wires], [False, True, False])
            self.assertEqual(self.successResultOf(other.call("far.now")).text, "now")
            self.assertEqual(stage.upstream.leases.made, 3, "the other's session is as it was")
            stage.end(self.successResultOf)

    def tombstones(self, house: Harness) -> list[str]:
        news: list[Any] = []
        end = house.engine.watch("ended/", news.append)
        house.clock.advance(0)
        end()
        return list(news[0].entries)

    def test_calls_under_way(self) -> None:
        """They come to their end; then the session does."""
        for linked in (False, True):
            stage = self.stage(linked=linked)
            client = stage.client(ERA, linked=linked)
            calling = client.call("far.wait")
            self.assertEqual(stage.upstream.leases.count, 2)
            (number,) = {seat.whose.session for seat in stage.upstream.leases.seats()} - {""}
            stage.near.catalog.forget_sessions([number])
            stage.near.catalog.forget_sessions([number])
            self.assertEqual(stage.upstream.leases.count, 2)
            self.waiting[0].callback(None)
            self.assertEqual(self.successResultOf(calling).text, "waited")
            self.assertEqual(stage.upstream.leases.count, 1)
            stage.end(self.successResultOf)

    def test_expired(self) -> None:
        """Of a session that something was alive of until then."""
        stage = self.stage(linked=True, pool=PoolSettings(lasting=1e6))
        stage.near.server.stop()
        stage.near = Harness(stage.upstream, clock=stage.clock, session_lifetime=20.0, session_idle=30.0)
        client = stage.client(ERA, linked=True)
        self.assertEqual(self.successResultOf(client.call("far.now")).text, "now")
        calling = client.call("far.wait")
        self.assertEqual(stage.upstream.leases.count, 2)
        for _ in range(40):
            stage.clock.advance(1)
        self.assertEqual(stage.upstream.leases.count, 2, "a call is under way")
        self.waiting[0].callback(None)
        self.assertEqual(self.successResultOf(calling).text, "waited")
        self.assertEqual(stage.upstream.leases.count, 1)
        stage.end(self.successResultOf)

    def test_modern(self) -> None:
        """A modern upstream has no sessions of anybody's: nothing is ended."""
        stage = self.stage(linked=True, era="modern")
        client = stage.client(ERA, linked=True)
        self.successResultOf(client.call("far.now"))
        count = stage.upstream.leases.count
        self.successResultOf(client.close())
        self.assertEqual(stage.upstream.leases.count, count)
        stage.end(self.successResultOf)
