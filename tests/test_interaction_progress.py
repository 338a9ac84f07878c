"""basic/patterns/progress."""

from tests.interaction.cases import Interaction, everywhere, holds
from tests.interaction.clients import PREFIX


@everywhere
class Progress(Interaction):
    @holds("basic.patterns.progress/flow.1", "basic.patterns.progress/tokens.1")
    def test_the_token_comes_back(self) -> None:
        for token in ("t", "", 0, 7, -1, 2**53, "é🦊"):
            noted = self.client.call("count", meta={"progressToken": token}).noted("progress")
            self.assertEqual([one["progressToken"] for one in noted], [token] * 3)
            self.assertIs(type(noted[0]["progressToken"]), type(token))
            self.assertEqual([one["progress"] for one in noted], [1, 2, 3])
            self.assertEqual((noted[0]["total"], noted[0]["message"]), (3, "step 1"))

    @holds("basic.patterns.progress/flow.1")
    def test_other_tokens_are_refused(self) -> None:
        for token in (1.5, True, [], {}):
            sent = self.client.call("count", meta={"progressToken": token}, valid=False)
            self.refused(sent, -32602, 400)

    @holds("basic.patterns.progress/tokens.1")
    def test_no_token_no_progress(self) -> None:
        self.assertEqual(self.client.call("count").notifications, [])

    @holds("basic.patterns.progress/flow.2")
    def test_it_grows(self) -> None:
        sent = self.client.call("stagger", meta={"progressToken": "t"})
        self.assertEqual([one["progress"] for one in sent.noted("progress")], [1, 2])
        self.stage.go_on()
        self.assertEqual([one["progress"] for one in sent.noted("progress")], [1, 2, 3])

    @holds("basic.patterns.progress/tokens.2", "basic.patterns.progress/notes.3")
    def test_it_stops_at_the_response(self) -> None:
        sent = self.client.call("late", meta={"progressToken": "t", PREFIX + "logLevel": "debug"})
        self.assertEqual(sent.text, "early")
        before = len(sent.messages)
        self.stage.go_on()
        self.world.turn(1.0)
        self.assertEqual(len(sent.messages), before)
        self.assertEqual(len(sent.noted("progress")), 1)

    @holds("basic.patterns.progress/notes.1", "basic.patterns.progress/tokens.2")
    def test_each_token_is_its_requests(self) -> None:
        first = self.client.call("wait", meta={"progressToken": "a"})
        second = self.client.call("wait", meta={"progressToken": "b"})
        self.stage.waits[1].callback(None)
        self.assertEqual([one["progressToken"] for one in second.noted("progress")], ["b"])
        self.assertEqual([one for one in first.noted("progress") if one["progressToken"] == "a"], [])
        self.stage.waits[0].callback(None)
        self.assertIn("a", [one["progressToken"] for one in first.noted("progress")])

    @holds("basic.patterns.progress/flow.2")
    def test_it_grows_over_rounds(self) -> None:
        """A retry goes on with the same work, whose progress goes on too (with the retry's token)."""
        can = {"elicitation": {}}
        self.stage.provider.remove_tool("stagger")

        from erlmcp import Context

        async def stagger(ctx: Context) -> str:
            ctx.report_progress(5)
            await ctx.elicit("Go on?", bool, key="on")
            ctx.report_progress(4)
            ctx.report_progress(6)
            return "done"

        self.stage.provider.add_tool(stagger)
        first = self.client.call("stagger", capabilities=can, meta={"progressToken": "a"})
        self.assertEqual([one["progress"] for one in first.noted("progress")], [5])
        params = {
            "requestState": first.result["requestState"],
            "inputResponses": {"on": {"action": "accept", "content": {"value": True}}},
        }
        second = self.client.call("stagger", params=params, capabilities=can, meta={"progressToken": "b"})
        self.assertEqual(second.text, "done")
        self.assertEqual(
            [(one["progressToken"], one["progress"]) for one in second.noted("progress")], [("b", 6)]
        )
