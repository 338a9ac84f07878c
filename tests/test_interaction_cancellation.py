"""basic/patterns/cancellation, and the same on the pages of the transports."""

import gc
import weakref
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import globalLogPublisher

from erlmcp import Context, Provider
from erlmcp.telemetry import log_from
from tests.interaction.cases import Interaction, everywhere, holds, over
from tests.interaction.clients import PREFIX, InMemory, OverHttp, OverLines

WANTED = {"notifications": {"toolsListChanged": True}}


@everywhere
class ByTheClient(Interaction):
    @holds(
        "basic.patterns.cancellation/behaviour.2", "basic.patterns.cancellation/behaviour.4",
        "basic.transports.stdio/cancellation.1", "basic.transports.stdio/cancellation.2",
        "basic.transports.streamable-http/cancellation.1", "basic.transports.streamable-http/cancellation.2",
        "basic.transports.streamable-http/cancellation.3", "basic.patterns.cancellation/http.1",
    )  # fmt: skip
    def test_work_stops_and_nothing_more_is_sent(self) -> None:
        meta = {"progressToken": "t", PREFIX + "logLevel": "debug"}
        sent = self.client.call("wait", meta=meta)
        self.assertEqual(self.world.house.server.in_flight, 1)
        self.client.give_up(sent)
        self.assertEqual(self.stage.cancelled, 1)
        self.assertEqual(self.world.house.server.in_flight, 0)
        self.world.turn(2.0)
        self.assertEqual(sent.messages, [])
        self.assertEqual(self.connect().call("echo", {"text": "next"}).text, "next")

    @holds("basic.patterns.cancellation/behaviour.2")
    def test_of_other_methods(self) -> None:
        sent = self.client.request("resources/read", {"uri": "waiting://resource"})
        self.client.give_up(sent)
        self.assertEqual((self.stage.cancelled, sent.messages), (1, []))

    @holds("basic.patterns.cancellation/behaviour.2", "basic.patterns.cancellation/behaviour.4")
    def test_handlers_hear_of_it(self) -> None:
        """What a handler does in spite of its cancellation reaches nobody."""
        provider = Provider("p")
        heard: list[Any] = []

        @provider.tool
        async def stubborn(ctx: Context) -> str:
            ctx.on_cancel(lambda: heard.append("callback"))
            try:
                await Deferred()
            finally:
                heard.append(ctx.cancelled)
                ctx.report_progress(1)
                ctx.error("cancelled")
            return "never"

        client = self.again(provider)
        sent = client.call("stubborn", meta={"progressToken": "t", PREFIX + "logLevel": "debug"})
        client.give_up(sent)
        self.assertEqual(heard, ["callback", True])
        self.assertEqual(sent.messages, [])

    @holds("basic.patterns.cancellation/behaviour.3")
    def test_what_it_held_is_freed(self) -> None:
        provider = Provider("p")
        held: list[Any] = []

        class Large:
            """What a handler holds."""

        @provider.tool
        async def hold() -> str:
            large = Large()
            held.append(weakref.ref(large))
            await Deferred()
            return repr(large)

        client = self.again(provider)
        sent = client.call("hold")
        admitted = self.world.house.gates.admit
        self.assertEqual(admitted.under_way, 1)  # type: ignore[attr-defined]
        client.give_up(sent)
        self.assertEqual(admitted.under_way, 0)  # type: ignore[attr-defined]
        # The recording double keeps errors, and they their frames.
        self.world.house.gates.record.outcomes.clear()  # type: ignore[attr-defined]
        gc.collect()
        self.assertIsNone(held[0]())

    @holds("basic.patterns.cancellation/timing.1", "basic.patterns.cancellation/errors.2")
    def test_too_late(self) -> None:
        sent = self.client.call("echo", {"text": "a"}, id="done")
        before = len(sent.messages)
        late = self.client.notify("notifications/cancelled", {"requestId": "done"})
        self.assertEqual(late.messages, [])
        self.assertEqual(len(sent.messages), before)
        self.assertEqual(self.client.call("echo", {"text": "c"}).text, "c")

    @holds("basic.patterns.cancellation/errors.1", "basic.patterns.cancellation/errors.3")
    def test_invalid_cancellations(self) -> None:
        sent = self.client.call("wait", id=1)
        for params in (
            {"requestId": 2}, {"requestId": "1"}, {"requestId": "unknown"}, {}, None, {"requestId": None},
            {"requestId": 1.5}, {"requestId": [1]}, {"requestId": {}}, {"id": 1}, [1], "1",
            {"requestId": 1, "reason": 5},
        ):  # fmt: skip
            ignored = self.client.notify("notifications/cancelled", params, valid=False)
            self.assertEqual([one for one in ignored.messages if "result" in one], [], params)
            if not self.client.on_http:
                self.assertEqual(ignored.messages, [], params)
        self.assertEqual(self.stage.cancelled, 0)
        self.stage.go_on("in spite of that")
        self.assertEqual(sent.text, "waited for in spite of that")

    @holds("basic.patterns.cancellation/timing.1")
    def test_twice(self) -> None:
        sent = self.client.call("wait")
        self.client.give_up(sent)
        if not self.client.on_http:
            self.client.give_up(sent)
        self.assertEqual(self.stage.cancelled, 1)
        self.assertEqual(sent.messages, [])


@over(InMemory, OverLines)
class OnStreams(Interaction):
    """Where one channel carries everything."""

    @holds("basic.patterns.cancellation/notes.1")
    def test_the_reason_is_logged(self) -> None:
        log_from("debug")
        self.addCleanup(log_from, "info")
        events: list[dict[str, Any]] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        for params in ({"reason": "lunch " * 100}, {}):
            sent = self.client.call("wait", id="x")
            self.client.notify("notifications/cancelled", {"requestId": "x", **params})
            self.assertEqual(sent.messages, [])
        reasons = [str(event["reason"]) for event in events if "reason" in event and event.get("id") == "x"]
        self.assertEqual(len(reasons), 2)
        self.assertTrue(reasons[0].startswith("lunch lunch"))
        self.assertLess(len(reasons[0]), 300)
        self.assertEqual(reasons[1], "no reason given")

    @holds("basic.patterns.cancellation/behaviour.2")
    def test_the_end_of_a_connection_cancels_what_it_carried(self) -> None:
        for _ in range(3):
            self.client.call("wait")
        self.client.leave()
        self.assertEqual(self.stage.cancelled, 3)
        self.assertEqual(self.world.house.server.in_flight, 0)

    @holds(
        "basic.patterns.cancellation/server.1", "basic.patterns.cancellation/server.2",
        "basic.patterns.cancellation/behaviour.1",
    )  # fmt: skip
    def test_the_server_cancels_subscriptions_and_nothing_else(self) -> None:
        listening = self.client.request("subscriptions/listen", WANTED, id="s")
        waiting = self.client.call("wait", id="w")
        self.client.call("visit", capabilities={"elicitation": {"url": {}}})
        self.world.house.server.drain()
        self.world.turn()
        self.world.house.server.stop()
        found = [one["params"] for one in self.messages("notifications/cancelled")]
        self.assertEqual([one["requestId"] for one in found], ["s"])
        self.assertEqual(listening.response["result"]["resultType"], "complete")
        self.assertTrue(waiting.answered)

    def messages(self, method: str) -> list[dict[str, Any]]:
        self.client.pump()
        return [one for one in self.client.inbox if one.get("method") == method]


@over(OverHttp)
class OnHttp(Interaction):
    """Where each request has its own stream."""

    @holds("basic.patterns.cancellation/http.1", "basic.transports.streamable-http/cancellation.1")
    def test_a_stream_that_has_begun(self) -> None:
        sent = self.client.call("stagger", meta={"progressToken": "t"})
        self.assertEqual(len(sent.noted("progress")), 2)
        self.client.give_up(sent)
        self.assertEqual(self.stage.cancelled, 1)
        self.assertEqual(len(sent.messages), 2)
        self.assertTrue(sent.carrier.lost)

    @holds("basic.patterns.cancellation/errors.1", "basic.transports.streamable-http/sending.1")
    def test_the_notification_is_not_needed_here(self) -> None:
        sent = self.client.call("wait", id=1)
        ignored = self.client.notify("notifications/cancelled", {"requestId": 1})
        self.assertEqual((ignored.http.status, ignored.http.body), (202, b""))
        self.stage.go_on("b")
        self.assertEqual(sent.text, "waited for b")

    @holds("basic.patterns.cancellation/server.1", "basic.patterns.cancellation/server.2")
    def test_the_end_of_a_subscription_is_that_of_its_stream(self) -> None:
        sent = self.client.request("subscriptions/listen", WANTED, id="s")
        self.world.house.server.drain()
        self.assertEqual(sent.response["id"], "s")
        self.assertEqual(
            [one["method"] for one in sent.notifications], ["notifications/subscriptions/acknowledged"]
        )
        self.assertIn(b"\r\n0\r\n\r\n", sent.carrier.taken)
