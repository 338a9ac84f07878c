"""What servers tell handshake clients: log messages, progress, and what cancellation comes to (utilities, basic)."""

from typing import Any

from tests.interaction.handshake import Handshake, OldOverHttp, each
from tests.interaction.stage import LEVELS


@each()
class Logging(Handshake):
    def levels(self) -> list[str]:
        before = len(self.client.told("message"))
        self.assertEqual(self.client.tool("talk").text, "talked")
        told = [one["params"] for one in self.client.told("message")[before:]]
        for one in told:
            self.assertEqual(one, {"level": one["level"], "logger": "stage", "data": {"level": one["level"]}})
        return [one["level"] for one in told]

    def test_before_a_level_is_set(self) -> None:
        self.assertEqual(self.levels(), list(LEVELS[1:]))

    def test_levels(self) -> None:
        for place, level in enumerate(LEVELS):
            self.assertEqual(self.client.ask("logging/setLevel", {"level": level}).result, {})
            self.assertEqual(self.levels(), list(LEVELS[place:]))

    def test_no_level(self) -> None:
        for level in ("loud", "", "INFO"):
            self.refused_old(self.client.ask("logging/setLevel", {"level": level}, valid=False), -32602)

    def test_each_session_has_its_own(self) -> None:
        other = self.connect()
        self.client.ask("logging/setLevel", {"level": "emergency"})
        other.ask("logging/setLevel", {"level": "debug"})
        self.assertEqual(self.levels(), ["emergency"])
        self.client = other
        self.assertEqual(self.levels(), list(LEVELS))

    def test_the_modern_level_means_nothing(self) -> None:
        """The key of 2026-07-28 is data of nobody here."""
        sent = self.client.tool("talk", meta={"io.modelcontextprotocol/logLevel": "emergency"})
        self.assertEqual(len(sent.noted("message")), len(LEVELS) - 1)


@each()
class Progress(Handshake):
    def test_told(self) -> None:
        """On the way of its call, before its answer; with a message from 2025-03-26 on."""
        for token in (7, 0, "", "a-b"):
            sent = self.client.tool("count", {"steps": 2}, meta={"progressToken": token})
            self.assertEqual(sent.text, "2 steps")
            expected: list[Any] = [
                {"progressToken": token, "progress": step, "total": 2, "message": f"step {step}"}
                for step in (1, 2)
            ]
            if not self.since("2025-03-26"):
                for one in expected:
                    del one["message"]
            self.assertEqual(sent.noted("progress"), expected)

    def test_not_wanted(self) -> None:
        self.assertEqual(self.client.tool("count").noted("progress"), [])

    def test_increases(self) -> None:
        sent = self.client.tool("stagger", meta={"progressToken": 1})
        self.stage.go_on()
        self.assertEqual(sent.text, "staggered")
        self.assertEqual([one["progress"] for one in sent.noted("progress")], [1, 2, 3])

    def test_not_after_the_answer(self) -> None:
        sent = self.client.tool("late", meta={"progressToken": 1})
        self.assertEqual(sent.text, "early")
        self.stage.go_on()
        self.client.pump()
        self.assertEqual(len(self.client.told("progress")), 1)
        self.assertEqual(self.client.told("message"), [])


@each()
class Cancellation(Handshake):
    def test_by_notification(self) -> None:
        """The work stops, and nothing is sent for it any more."""
        sent = self.client.tool("wait", id=5, meta={"progressToken": 1})
        other = self.client.tool("wait", id="5")
        self.client.tell("notifications/cancelled", {"requestId": 5, "reason": "enough"})
        self.assertEqual((self.stage.cancelled, sent.answered), (1, False))
        self.stage.waits.pop(0)
        self.stage.go_on("it")
        self.assertEqual(other.text, "waited for it")
        self.assertFalse(sent.answered)
        self.assertEqual(self.client.tool("echo", {"text": "a"}, id=5).text, "a")
        self.assertEqual(self.world.house.server.in_flight, 0)

    def test_of_what_is_not_there(self) -> None:
        """Unknown, answered, without an id: taken and ignored."""
        self.client.tool("echo", {"text": "a"}, id=1)
        before = len(self.client.inbox)
        for params in ({"requestId": 1}, {"requestId": "nobody"}):
            self.client.tell("notifications/cancelled", params)
        self.assertEqual(len(self.client.inbox), before)

    def test_not_of_another_session(self) -> None:
        sent = self.client.tool("wait", id=5)
        self.connect().tell("notifications/cancelled", {"requestId": 5})
        self.assertEqual(self.stage.cancelled, 0)
        self.stage.go_on("it")
        self.assertEqual(sent.text, "waited for it")

    def test_by_the_end_of_the_connection(self) -> None:
        """The end of a stream cancels all that it carries; on HTTP it "SHOULD NOT be interpreted as" that."""
        self.client.tool("wait")
        self.client.leave()
        self.assertEqual(self.stage.cancelled, 0 if self.client.on_http else 1)
        self.assertEqual(self.world.house.server.in_flight, 1 if self.client.on_http else 0)
        if self.client.on_http:
            self.stage.go_on()
            self.assertEqual(self.world.house.server.in_flight, 0)

    def test_the_same_id_twice(self) -> None:
        """An id that is in flight is refused, with the status of a bad request; the first goes on."""
        sent = self.client.tool("wait", id=5)
        again = self.client.tool("echo", {"text": "a"}, id=5)
        self.assertEqual(again.messages[0]["error"]["code"], -32600)
        self.stage.go_on("it")
        self.assertEqual(sent.messages[-1]["result"]["content"][0]["text"], "waited for it")

    def test_initialize_cannot_be_cancelled(self) -> None:
        self.client.tell("notifications/cancelled", {"requestId": 1})
        self.assertEqual(self.client.ask("ping").result, {})


@each(OldOverHttp)
class OverJsonAlone(Handshake):
    def test_no_stream(self) -> None:
        """A client that takes no stream gets its answer, and nothing before it."""
        json = {"Accept": "application/json"}
        sent = self.client.tool("count", meta={"progressToken": 1}, headers=json)
        self.assertEqual((sent.text, sent.noted("progress")), ("3 steps", []))
        self.assertEqual(sent.http.fields["content-type"], "application/json")
        self.assertEqual(self.client.tool("talk", headers=json).notifications, [])
