"""Streams over HTTP that can be resumed: GET, event ids, Last-Event-ID, priming (basic/transports, Streamable HTTP)."""

from typing import Any

from erlmcp import Context, Provider
from tests.interaction.handshake import Handshake, OldOverHttp, each, events_of


class Streams(Handshake):
    def events(self, sent: Any) -> list[Any]:
        return events_of(sent.http)

    def ids(self, sent: Any) -> list[str]:
        return [name for name, _, _ in self.events(sent) if name]


@each(OldOverHttp)
class Events(Streams):
    def test_ids(self) -> None:
        """Every event of a stream has one, and no id is given twice, on any stream of any session."""
        seen: list[str] = []
        for client in (self.client, self.connect()):
            heard = client.listen()
            for _ in range(2):
                seen += self.ids(client.tool("count", meta={"progressToken": 1}))
            if client is self.client:
                self.stage.provider.remove_tool("echo")
                self.stage.provider.add_tool(self.nothing)
            seen += self.ids(heard)
        self.assertEqual(len(seen), len(set(seen)))
        self.assertGreaterEqual(len(seen), 18)

    async def nothing(self) -> str:
        return ""

    def test_priming(self) -> None:
        """An empty event first, with an id and ``retry:``, for 2025-11-25 alone: older clients fail on it."""
        for sent in (self.client.tool("count", meta={"progressToken": 1}), self.client.listen()):
            events = self.events(sent)
            primed = [one for one in events if one[2] is None]
            if self.since("2025-11-25"):
                self.assertEqual(primed, events[:1])
                self.assertGreater(primed[0][1], 0)
                self.assertTrue(primed[0][0])
            else:
                self.assertEqual(primed, [])
                self.assertEqual([retry for _, retry, _ in events if retry is not None], [])

    def test_no_stream_for_a_plain_answer(self) -> None:
        sent = self.client.tool("echo", {"text": "a"})
        self.assertEqual(sent.http.fields["content-type"], "application/json")

    def test_the_stream_ends_with_the_answer(self) -> None:
        sent = self.client.tool("count", meta={"progressToken": 1})
        self.assertEqual(self.events(sent)[-1][2]["result"]["content"][0]["text"], "3 steps")
        self.assertEqual(self.client._open, [])


@each(OldOverHttp)
class Resumption(Streams):
    def test_after_any_event(self) -> None:
        """What came after the named event is replayed, the answer last, and the stream ends."""
        sent = self.client.tool("count", meta={"progressToken": 1})
        whole = self.events(sent)
        for place, (name, _, _) in enumerate(whole):
            again = self.client.listen(name)
            self.assertEqual(again.http.status, 200)
            replayed = [one for one in self.events(again) if one[2] is not None]
            self.assertEqual(replayed, [one for one in whole[place + 1 :] if one[2] is not None])
        self.assertEqual(self.client._open, [])

    def test_while_it_runs(self) -> None:
        sent = self.client.tool("stagger", meta={"progressToken": 1})
        last = self.ids(sent)[-1]
        self.client.lose(sent)
        again = self.client.listen(last)
        self.assertEqual(again.messages, [])
        self.stage.go_on()
        self.assertEqual(
            [one.get("method", "answer") for one in again.messages], ["notifications/progress", "answer"]
        )
        self.assertEqual(again.messages[-1]["id"], sent.id)

    def test_two_that_resume(self) -> None:
        """The newer listens; the older ends."""
        sent = self.client.tool("stagger", meta={"progressToken": 1})
        last = self.ids(sent)[-1]
        first, second = self.client.listen(last), self.client.listen(last)
        self.assertTrue(first.carrier.lost or first not in self.client._open)
        self.stage.go_on()
        self.assertEqual((len(first.messages), len(second.messages)), (0, 2))

    def test_of_nobody_elses(self) -> None:
        """An event of another session, another stream's number, or nonsense: 400, since the session is there."""
        other = self.connect()
        theirs = self.ids(other.tool("count", meta={"progressToken": 1}))[0]
        for name in (theirs, "x", "1", "x.1", "a-b.1", theirs + "0" * 20, "é"):
            self.assertEqual(self.client.listen(name).http.status, 400, name)

    def test_the_replay_is_bounded(self) -> None:
        sent = self.client.tool("flood", {"times": 2000}, meta={"progressToken": 1})
        first = self.ids(sent)[0]
        again = self.client.listen(first)
        self.assertLessEqual(len(again.messages), 257)
        self.assertEqual(again.messages[-1]["id"], sent.id)

    def test_left_early(self) -> None:
        """Work may let its client go and come back for the answer, in 2025-11-25 alone."""
        provider = Provider("long")

        @provider.tool
        async def long(ctx: Context) -> str:
            await ctx.leave()
            return str(await self.stage.wait())

        self.again(provider)
        sent = self.client.tool("long")
        self.client.pump()
        if not self.since("2025-11-25"):
            self.assertIn(sent, self.client._open)
            self.stage.go_on("here")
            self.assertEqual(sent.text, "here")
            return
        self.assertEqual(self.client._open, [], "the server has closed the stream")
        [(name, retry, message)] = self.events(sent)
        self.assertEqual((retry is None, message), (False, None))
        early = self.client.listen(name)
        self.assertEqual(early.messages, [])
        self.stage.go_on("there")
        self.assertEqual(early.messages[-1]["result"]["content"][0]["text"], "there")


@each(OldOverHttp)
class Listening(Streams):
    def change(self) -> None:
        self.ornate.provider.notify_updated("memo://text")

    def setUp(self) -> None:
        super().setUp()
        self.client.ask("resources/subscribe", {"uri": "memo://text"})

    def test_head(self) -> None:
        heard = self.client.listen()
        self.assertEqual(heard.http.status, 200)
        self.assertEqual(heard.http.fields["content-type"], "text/event-stream")
        self.assertNotIn("mcp-session-id", heard.http.fields)

    def test_not_acceptable(self) -> None:
        self.assertEqual(self.client.bare("GET", {"Accept": "application/json"}).http.status, 406)

    def test_on_one_of_several(self) -> None:
        """ "The server MUST send each of its JSON-RPC messages on only one of the connected streams"."""
        streams = [self.client.listen() for _ in range(3)]
        for _ in range(3):
            self.change()
        self.assertEqual(sum(len(one.messages) for one in streams), 3)
        self.client.lose(streams[0])
        self.change()
        self.assertEqual(sum(len(one.messages) for one in streams), 4)

    def test_on_one_that_is_heard(self) -> None:
        """Not on a newer one whose connection is lost, as long as another is there."""
        older, newer = self.client.listen(), self.client.listen()
        self.client.lose(newer)
        self.change()
        self.assertEqual(len(older.messages), 1)

    def test_what_came_meanwhile(self) -> None:
        """Kept for the client that comes back for it."""
        heard = self.client.listen()
        self.change()
        last = self.ids(heard)[-1]
        self.client.lose(heard)
        self.change()
        again = self.client.listen(last)
        self.assertEqual(len(again.messages), 1)
        self.change()
        self.assertEqual(len(again.messages), 2)

    def test_no_answers(self) -> None:
        """ "The server MUST NOT send a JSON-RPC response on the stream unless resuming"."""
        heard = self.client.listen()
        self.client.tool("count", meta={"progressToken": 1})
        call = self.client.tool("wait")
        self.stage.go_on("a")
        self.assertEqual(call.text, "waited for a")
        self.assertEqual(heard.messages, [])

    def test_the_level_of_logs(self) -> None:
        """Messages of a call go on its own stream."""
        heard = self.client.listen()
        self.assertEqual(len(self.client.tool("talk").noted("message")), 7)
        self.assertEqual(heard.messages, [])

    def test_not_listening(self) -> None:
        """Nobody hears of a change who does not listen, and nothing is kept of it."""
        self.change()
        self.assertEqual(self.client.told("resources/updated"), [])
        self.assertEqual(self.client.listen().messages, [])

    def test_heartbeats(self) -> None:
        heard = self.client.listen()
        self.world.turn(120)
        self.client.pump()
        self.assertIn(b"\n:\n", b"\n" + heard.http.body)
        self.assertEqual(heard.messages, [])

    def test_drain(self) -> None:
        """The server ends: streams end, sessions live on."""
        heard = self.client.listen()
        self.world.house.server.drain()
        self.client.pump()
        self.assertNotIn(heard, self.client._open)
