"""Providers of ours in processes of their own, with a stub as the process: one call at a time, and calls held there."""

from typing import Any

from msgspec.json import decode

from erlmcp.gateway import tell
from erlmcp.gateway._attempts import repeatable
from erlmcp.gateway._leases import PoolSettings
from erlmcp.gateway._own import OWN_KEY, heard, within
from erlmcp.governor import BreakerState
from erlmcp.interfaces import Definitions, Peer, Request
from erlmcp.protocol import MODERN, McpError
from tests.gateway_stage import Stage
from tests.gateway_stub import StubCase
from tests.test_gateway_questions import needs, question

ABLE = {"elicitation": {}}


class OwnCase(StubCase):
    def begin_own(self, **pool: Any) -> Stage:
        pool = {"size": 1, "overflow": 2, **pool}
        return self.begin(own=True, stateless=True, pool=PoolSettings(**pool))

    def held(self) -> dict[int, list[int]]:
        """The open calls of each process, by the number of its wire."""
        return {
            number: [int(one) for one, out in wire.open_requests.items() if out.method == "tools/call"]
            for number, wire in enumerate(self.stub.wires)
            if wire.inbox is not None
        }


class OneAtATimeTests(OwnCase):
    def test_each_call_has_a_process(self) -> None:
        self.begin_own()
        self.stub.on("tools/call", None)
        client = self.stage.client(MODERN)
        calls = [self.call(client=client) for _ in range(4)]
        self.assertEqual([len(one) for one in self.held().values()], [1, 1, 1])
        self.stub.wires[0].answer(self.held()[0][0], self.said("done"))
        self.assertEqual(self.text(calls[0]), "done")
        self.assertEqual(
            [len(one) for one in self.held().values()], [1, 1, 1], "the one that waited has it now"
        )
        for number, [call] in self.held().items():
            self.stub.wires[number].answer(call, self.said("done"))
        for one in calls[1:]:
            self.text(one)

    def test_what_fails_is_one_tool(self) -> None:
        """Its failures keep nobody from the others: no breaker opens."""
        self.begin_own()
        self.stub.on("tools/call", McpError(-32603, "broken"))
        client = self.stage.client(MODERN)
        for _ in range(30):
            self.assertEqual(self.error(client.call("far.pay")).code, -32603)
        self.assertIs(self.stage.upstream.breaker.state, BreakerState.CLOSED)
        self.stub.on("tools/call", None)
        for _ in range(25):
            calling = client.call("far.pay")
            self.stage.clock.advance(0)
            for wire in self.stub.wires:
                if any(one.method == "tools/call" for one in wire.open_requests.values()):
                    wire.cut("ended with signal SIGSEGV")
            self.assertEqual(self.error(calling).code, -31004)
            self.stage.clock.advance(0.1)
        self.assertIs(self.stage.upstream.breaker.state, BreakerState.CLOSED)
        self.assertIn("SIGSEGV", self.stage.upstream.detail()["last loss"])
        self.assertGreaterEqual(self.stage.upstream.detail()["losses"], 25)

    def test_a_deadline_ends_the_process(self) -> None:
        self.begin_own()
        self.limit(2)
        self.stub.on("tools/call", None)
        calling = self.call()
        wire = self.stub.wire
        self.stage.clock.pump([0.5] * 8)
        self.assertEqual(self.error(calling).code, -31001)
        self.assertIsNone(wire.inbox, "it was closed")
        self.assertIn("not done in time", self.stage.upstream.detail()["last loss"])
        self.stub.on("tools/call", self.said("another"))
        self.assertEqual(self.text(self.call()), "another")

    def test_given_up(self) -> None:
        """A call that can be interrupted leaves its process, if that still answers; any other ends it."""
        for interruptible, answers, left in ((True, True, True), (True, False, False), (False, True, False)):
            stage = self.begin_own()
            if interruptible:
                self.interruptible()
            self.stub.on("tools/call", None)
            calling = self.call()
            wire = self.stub.wire
            if not answers:
                self.stub.on("server/discover", None)
            calling.cancel()
            self.failureResultOf(calling)
            stage.clock.pump([0.25] * 8)
            self.assertEqual(wire.inbox is not None, left, f"{interruptible} {answers}")
            self.assertEqual(stage.upstream.detail()["losses"], 0 if left else 1)
            self.stub.on("server/discover", self.stub._greeting())

    def interruptible(self) -> None:
        meta = {OWN_KEY: {"interruptible": True}, "kept": 1}
        tools = [{"name": "pay", "inputSchema": {"type": "object"}, "_meta": meta}]
        self.stub.on("tools/list", self.page(tools=tools))
        self.stage.upstream.relist("tools")
        self.stage.clock.pump([0.5] * 10)
        tool = self.stage.upstream.definitions().tools["far.pay"]
        self.assertTrue(tool.interruptible)
        self.assertNotIn(OWN_KEY.encode(), bytes(tool.wire))
        self.assertIn(b"kept", bytes(tool.wire))


class HeldTests(OwnCase):
    """A call that waits for its client is in one process, and goes on in that."""

    def asked(self, stage: Stage) -> dict[str, Any]:
        self.stub.on("tools/call", needs("state", k=question()))
        exchange = stage.near.call("far.pay", capabilities=ABLE)
        stage.clock.advance(0.1)
        result: dict[str, Any] = exchange.result
        return result

    def retry(self, stage: Stage, asked: dict[str, Any]) -> Any:
        answers = {"k": {"action": "decline"}}
        params = {"requestState": asked["requestState"], "inputResponses": answers}
        exchange = stage.near.call("far.pay", capabilities=ABLE, params=params)
        stage.clock.advance(0.1)
        return exchange

    def test_goes_back(self) -> None:
        stage = self.begin_own(recycle=1)
        wire = self.stub.wire
        first = self.asked(stage)
        self.stub.on("tools/call", self.said("other"))
        other = stage.near.call("far.pay")
        stage.clock.advance(0.1)
        self.assertEqual(other.result["content"][0]["text"], "other")
        self.assertIsNotNone(wire.inbox, "it is not replaced while it holds a call")
        self.stub.on("tools/call", self.said("yours"))
        self.assertEqual(self.retry(stage, first).result["content"][0]["text"], "yours")
        self.assertEqual(self.stub.asked("tools/call")[-1]["requestState"], "state", "its own, as it was")
        self.assertIsNone(wire.inbox, "then it is")

    def test_waits_for_its_process(self) -> None:
        """It is busy with another call: others may have another process, this one waits for that."""
        stage = self.begin_own(size=1, overflow=0)
        asked = self.asked(stage)
        self.stub.on("tools/call", None)
        busy = stage.near.call("far.pay")
        stage.clock.advance(0.1)
        again = self.retry(stage, asked)
        self.assertEqual(stage.upstream.leases.waiting, 1)
        self.stub.on("tools/call", self.said("yours"))
        self.stub.wire.answer(self.held()[0][0], self.said("busy"))
        stage.clock.advance(0.1)
        self.assertEqual(busy.result["content"][0]["text"], "busy")
        self.assertEqual(again.result["content"][0]["text"], "yours")

    def test_it_breaks_while_somebody_waits_for_it(self) -> None:
        stage = self.begin_own(size=1, overflow=0)
        asked = self.asked(stage)
        self.stub.on("tools/call", None)
        busy = stage.near.call("far.pay")
        stage.clock.advance(0.1)
        again = self.retry(stage, asked)
        self.stub.wire.cut("ended with signal SIGSEGV")
        stage.clock.advance(0.1)
        self.assertEqual([busy.error["code"], again.error["code"]], [-31004, -31004])
        self.assertEqual(stage.upstream.leases.waiting, 0)

    def test_it_has_died_meanwhile(self) -> None:
        """Nothing is run twice, and another life of the same place is another process."""
        for reborn in (False, True):
            stage = self.begin_own(size=1, overflow=0)
            asked = self.asked(stage)
            self.stub.wire.cut("killed")
            stage.clock.pump([0.5] * 6)
            if reborn:
                self.stub.on("tools/call", self.said("new"))
                self.text(self.call())
            calls = len(self.stub.asked("tools/call"))
            again = self.retry(stage, asked)
            self.assertEqual(again.error["code"], -31004)
            self.assertEqual(len(self.stub.asked("tools/call")), calls)

    def test_lost_on_the_way_back(self) -> None:
        stage = self.begin_own()
        asked = self.asked(stage)
        self.stub.on("tools/call", None)
        again = self.retry(stage, asked)
        self.stub.wire.cut("killed")
        stage.clock.advance(0.1)
        self.assertEqual(again.error["code"], -31004)

    def test_not_for_ever(self) -> None:
        """A client that does not come back holds no process for longer than the park's limit."""
        stage = self.begin_own(size=0, idle=1.0)
        self.asked(stage)
        [seat] = stage.upstream.leases.seats()
        stage.clock.pump([10] * 30)
        self.assertEqual(len(seat.parked), 1)
        stage.clock.pump([10] * 60)
        self.assertEqual(seat.parked, [])


class TellingTests(StubCase):
    """What the two processes tell each other of definitions."""

    def definitions(self) -> Definitions:
        from erlmcp import Provider

        provider = Provider("told")

        @provider.tool(timeout=5, meta={"mine": 1})
        async def slow() -> str:
            """Slow."""
            return ""

        @provider.tool
        def plain() -> str:
            """In a thread."""
            return ""

        @provider.tool(replay=True)
        def again() -> str:
            """In a thread, as often as you like."""
            return ""

        @provider.resource("a://b", timeout=7)
        async def read() -> str:
            """Read."""
            return ""

        return provider.definitions()

    def test_there_and_back(self) -> None:
        before = self.definitions()
        shown = tell(before)
        self.assertIn(OWN_KEY.encode(), bytes(shown.tools["slow"].wire))
        self.assertIs(shown.tools["plain"], before.tools["plain"], "there is nothing to tell")
        after = heard(shown)
        for kind in ("tools", "resources"):
            for name, one in getattr(after, kind).items():
                was = getattr(before, kind)[name]
                self.assertEqual((one.timeout, decode(one.wire)), (was.timeout, decode(was.wire)))
        self.assertTrue(after.tools["slow"].interruptible)
        self.assertFalse(after.tools["plain"].interruptible)
        self.assertEqual([name for name, one in after.tools.items() if one.replay], ["again"])
        peer = Peer(transport="test")
        self.assertEqual(
            [
                name
                for name, one in after.tools.items()
                if repeatable(Request(id=1, method="tools/call", peer=peer, target=one))
            ],
            ["again"],
        )

    def test_within(self) -> None:
        limited = within(self.definitions(), 3.0)
        self.assertEqual((limited.tools["slow"].timeout, limited.tools["plain"].timeout), (5, 3.0))

    def test_an_upstreams_calls_may_take_so_long(self) -> None:
        self.begin(timeout=2.5)
        self.assertEqual({one.timeout for one in self.stage.upstream.definitions().tools.values()}, {2.5})
