"""server/utilities/logging, and progress beside it where a flood of either is held back."""

from erlmcp import Context, Provider
from tests.interaction.cases import Interaction, everywhere, holds, over
from tests.interaction.clients import PREFIX, OverHttp, OverLines
from tests.interaction.stage import LEVELS

LEVEL = PREFIX + "logLevel"


@everywhere
class Levels(Interaction):
    @holds("server.utilities.logging/level.1", "server.utilities.logging/security.2")
    def test_nobody_who_did_not_ask(self) -> None:
        sent = self.client.call("talk")
        self.assertEqual(sent.text, "talked")
        self.assertEqual(sent.notifications, [])
        waiting = self.client.call("wait")
        self.stage.go_on()
        self.assertEqual(waiting.notifications, [])

    @holds("server.utilities.logging/level.1")
    def test_at_or_above_the_level(self) -> None:
        for place, level in enumerate(LEVELS):
            found = self.client.call("talk", meta={LEVEL: level}).noted("message")
            self.assertEqual([one["level"] for one in found], list(LEVELS[place:]))
            for one in found:
                self.assertEqual((one["data"], one["logger"]), ({"level": one["level"]}, "stage"))

    @holds("server.utilities.logging/errors.1")
    def test_unknown_levels(self) -> None:
        for level in ("loud", "", "DEBUG", 5, None):
            message_meta = {LEVEL: level} if level is not None else {LEVEL: []}
            sent = self.client.call("talk", meta=message_meta, valid=False)
            error = self.refused(sent, -32602, 400)
            self.assertIn("logLevel", error["message"])
            self.assertEqual(sent.notifications, [])

    @holds("server.utilities.logging/level.2", "basic.transports.streamable-http/receiving.1")
    def test_on_the_stream_of_its_own_request(self) -> None:
        listener = self.client.another()
        everything = {"toolsListChanged": True, "promptsListChanged": True, "resourcesListChanged": True}
        listening = listener.request(
            "subscriptions/listen", {"notifications": everything}, meta={LEVEL: "debug"}
        )
        quiet = self.client.another().call("wait")
        loud = self.client.call("wait", meta={LEVEL: "error", "progressToken": "t"})
        for _ in range(2):
            self.stage.go_on("x")
        self.assertEqual([one["data"] for one in loud.noted("message")], ["done"])
        self.assertEqual(loud.noted("progress")[0]["progressToken"], "t")
        self.assertEqual(quiet.notifications, [])
        self.assertEqual(
            [one["method"] for one in listening.messages], ["notifications/subscriptions/acknowledged"]
        )

    @holds("server.utilities.logging/level.2")
    def test_before_the_response(self) -> None:
        sent = self.client.call("talk", meta={LEVEL: "emergency"})
        self.assertEqual(
            [one.get("method", "response") for one in sent.messages], ["notifications/message", "response"]
        )

    @holds("server.utilities.logging/security.3")
    def test_data_is_validated(self) -> None:
        provider = Provider("p")

        @provider.tool
        async def odd(ctx: Context) -> str:
            ctx.info(object())
            return "logged"

        client = self.again(provider)
        sent = client.call("odd", meta={LEVEL: "debug"})
        self.assertTrue(sent.answered)
        self.assertEqual(sent.notifications, [])
        self.flushLoggedErrors(TypeError)


@over(OverLines, OverHttp)
class Floods(Interaction):
    @holds("server.utilities.logging/rate.1", "basic.patterns.progress/notes.2")
    def test_who_does_not_read_is_not_buried(self) -> None:
        """What a peer has not read is bounded: notifications are left out, the response is not."""
        client = self.again(self.stage.provider, wire={"write_buffer": 20_000})
        sent = client.call("flood", {"times": 2000}, meta={"progressToken": 1})
        self.assertEqual(sent.text, "flooded")
        noted = sent.noted("progress")
        self.assertTrue(20 < len(noted) < 1000, len(noted))
        values = [one["progress"] for one in noted]
        self.assertEqual(values, sorted(set(values)))
