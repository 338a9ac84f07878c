"""Requests that come before an upstream has said what it offers: they wait for that, a little, and for nobody else."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from erlmcp import Provider
from erlmcp.catalog import Catalog
from erlmcp.tap._standing import Standing
from erlmcp.testing import Harness, MemoryExchange, StubServer
from tests.gateway_stage import Stage

EVERYTHING = {"tools": {}, "resources": {}, "prompts": {}}
TOOL = {"name": "look", "inputSchema": {"type": "object"}}
WELL = {"resultType": "complete", "content": [{"type": "text", "text": "well"}]}


def code(exchange: MemoryExchange) -> Any:
    """The code of the error that was answered."""
    return exchange.replies[0][1]["error"]["code"]


class FirstWordTests(SynchronousTestCase):
    """One upstream that is slow to say what it has."""

    def setUp(self) -> None:
        self.stub = StubServer("2026-07-28", EVERYTHING)
        self.waiting: list[Any] = []
        self.stub.on("tools/list", None)
        self.stub.on("resources/list", {"resultType": "complete", "resources": []})
        self.stub.on("resources/templates/list", {"resultType": "complete", "resourceTemplates": []})
        self.stub.on("prompts/list", {"resultType": "complete", "prompts": []})
        self.stub.on("tools/call", WELL)

    def stage(self, **plan: Any) -> Stage:
        stage = Stage(stub=self.stub, **plan)
        self.addCleanup(stage.end, self.successResultOf)
        return stage

    def listed(self, stage: Stage) -> None:
        """The upstream says what tools it has."""
        number = next(one["id"] for one in self.stub.requests if one["method"] == "tools/list")
        self.stub.wire.answer(number, {"resultType": "complete", "tools": [TOOL]})
        stage.clock.advance(0)

    def test_a_call_waits(self) -> None:
        stage = self.stage()
        stage.begin()
        calling = stage.near.call("far.look")
        self.assertEqual(calling.replies, [])
        self.listed(stage)
        self.assertEqual(calling.result["content"][0]["text"], "well")
        self.assertEqual(code(stage.near.call("far.nothing")), -32602, "it is known now")

    def test_not_for_ever(self) -> None:
        stage = self.stage()
        stage.begin()
        calling = stage.near.call("far.look")
        stage.clock.advance(4.9)
        self.assertEqual(calling.replies, [])
        stage.clock.advance(0.2)
        self.assertEqual(code(calling), -32602)

    def test_not_for_what_is_nobodys(self) -> None:
        stage = self.stage()
        self.assertEqual(code(stage.near.call("far.look")), -32602, "it has not been started: nothing comes")
        stage.begin()
        for name in ("look", "other.look"):
            self.assertEqual(code(stage.near.call(name)), -32602)
        self.assertEqual(code(stage.near.send("resources/read", {"uri": "what://ever"})), -32602)
        prompting = stage.near.send("prompts/get", {"name": "far.greet"})
        self.assertEqual(prompting.replies, [])
        self.listed(stage)
        self.assertEqual(code(prompting), -32602)

    def test_one_that_is_not_there(self) -> None:
        self.stub.refusal = "refused"
        stage = self.stage()
        stage.begin()
        self.assertEqual(code(stage.near.call("far.look")), -32602)
        stage.clock.advance(0.1)
        self.assertEqual(self.successResultOf(stage.upstream.first_word(1.0) or done()), None)

    def test_a_client_that_goes(self) -> None:
        stage = self.stage()
        stage.begin()
        calling = stage.near.call("far.look")
        stage.near.channel.closed(calling)
        self.listed(stage)
        self.assertEqual(self.stub.asked("tools/call"), [])
        self.assertEqual(stage.near.server.in_flight, 0)

    def test_stopped(self) -> None:
        stage = self.stage()
        stage.begin()
        calling = stage.near.call("far.look")
        self.successResultOf(stage.upstream.stop())
        self.assertEqual(code(calling), -32602)
        self.assertIsNone(stage.upstream.may_have("tools/call", "far.look"))

    def test_a_bound(self) -> None:
        stage = self.stage()
        stage.begin()
        waiting = [stage.upstream.may_have("tools/call", "far.look") for _ in range(1001)]
        self.assertIsNone(waiting[-1])
        self.assertIsNotNone(waiting[-2])
        stage.clock.advance(6)

    def test_others_are_not_waited_for(self) -> None:
        """Where any name may be anybody's."""
        quick = Provider("quick")

        class Later:
            name = "later"

            def may_have(self, method: str, name: str) -> Deferred[None]:
                del method, name
                return soon

            def __getattr__(self, name: str) -> Any:
                return getattr(quick, name)

        soon: Deferred[None] = Deferred()
        stage = self.stage(mode="none")
        near = Harness(stage.upstream, Standing(Later()), clock=stage.clock)
        self.addCleanup(near.server.stop)
        stage.upstream.start()
        stage.clock.advance(0)
        calling = near.call("hop")

        @quick.tool
        async def hop() -> str:
            return "hopped"

        self.assertEqual(calling.replies, [])
        soon.callback(None)
        self.assertEqual(calling.result["content"][0]["text"], "hopped")

    def test_what_a_view_does_not_show(self) -> None:
        stage = self.stage()
        stage.begin()
        self.assertEqual(len(Catalog([stage.upstream]).coming("tools/call", "far.look")), 1)
        self.assertEqual(Catalog([stage.upstream], lambda _: False).coming("tools/call", "far.look"), ())


def done() -> Deferred[None]:
    """Nothing to wait for."""
    nothing: Deferred[None] = Deferred()
    nothing.callback(None)
    return nothing
