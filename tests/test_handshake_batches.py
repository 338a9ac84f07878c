"""Batches of 2025-03-26: several messages in one document, answered in one (basic, Batching)."""

from typing import Any

from tests.interaction.handshake import Handshake, OldOverHttp, each, events_of


def request(number: Any, method: str, **params: Any) -> dict[str, Any]:
    message: dict[str, Any] = {"jsonrpc": "2.0", "id": number, "method": method}
    return {**message, "params": params} if params else message


def call(number: Any, name: str, meta: Any = None, **arguments: Any) -> dict[str, Any]:
    more = {} if meta is None else {"_meta": meta}
    return request(number, "tools/call", name=name, arguments=arguments, **more)


class Batching(Handshake):
    def batch(self, *messages: Any, **options: Any) -> Any:
        for one in messages:
            if isinstance(one, dict) and "id" in one and isinstance(one.get("method"), str):
                self.client._methods[one["id"]] = one["method"]
        return self.client.send(list(messages), **options)

    def answers(self) -> dict[Any, Any]:
        """The responses of the only array that has come, by id."""
        self.client.pump()
        [found] = self.client.batches
        return {one.get("id"): one for one in found}


@each(revisions=("2025-03-26",))
class Batches(Batching):
    def test_answered_in_one(self) -> None:
        sent = self.batch(
            request(1, "ping"),
            {"jsonrpc": "2.0", "method": "notifications/roots/list_changed"},
            call("two", "echo", text="a"),
            request(3, "server/dance"),
            call(4, "nobody"),
            request(5, "resources/read", uri="memo://nothing"),
        )
        found = self.answers()
        self.assertEqual(set(found), {1, "two", 3, 4, 5})
        self.assertEqual(found["two"]["result"]["content"][0]["text"], "a")
        codes = [found[number]["error"]["code"] for number in (3, 4, 5)]
        self.assertEqual(codes, [-32601, -32602, -32002])
        if self.client.on_http:
            self.assertEqual(sent.http.status, 200)

    def test_one(self) -> None:
        self.batch(request(1, "ping"))
        self.assertEqual(list(self.answers()), [1])

    def test_nothing_to_answer(self) -> None:
        before = len(self.client.inbox)
        sent = self.batch(
            {"jsonrpc": "2.0", "method": "notifications/initialized"},
            {"jsonrpc": "2.0", "id": "nobody", "result": {}},
        )
        self.assertEqual(len(self.client.inbox), before)
        if self.client.on_http:
            self.assertEqual((sent.http.status, sent.http.body), (202, b""))

    def test_malformed_parts(self) -> None:
        """Each is answered for itself; the others are done."""
        self.batch(
            request(1, "ping"), {"jsonrpc": "2.0", "id": 2, "method": 5}, {"jsonrpc": "1.0", "id": 3}, 5
        )
        [found] = self.client.batches
        self.assertEqual(len(found), 4)
        self.assertEqual(sum("error" in one for one in found), 3)

    def test_calls_that_wait(self) -> None:
        """The array comes when all are done."""
        self.batch(call(1, "wait"), call(2, "wait"), request(3, "ping"))
        self.client.pump()
        self.assertEqual(self.client.batches, [])
        self.stage.go_on("a")
        self.client.pump()
        self.assertEqual(self.client.batches, [])
        self.stage.go_on("b")
        self.assertEqual(set(self.answers()), {1, 2, 3})

    def test_a_cancelled_part(self) -> None:
        """It has no answer, and the others do not wait for it."""
        self.batch(call(1, "wait"), call(2, "echo", text="a"))
        self.client.tell("notifications/cancelled", {"requestId": 1})
        self.assertEqual(set(self.answers()), {2})
        self.assertEqual(self.world.house.server.in_flight, 0)

    def test_all_cancelled(self) -> None:
        sent = self.batch(call(1, "wait"), call(2, "wait"))
        for number in (1, 2):
            self.client.tell("notifications/cancelled", {"requestId": number})
        self.client.pump()
        self.assertEqual(self.client.batches, [])
        self.assertEqual(self.world.house.server.in_flight, 0)
        if self.client.on_http:
            self.assertEqual(sent.responses, [])
            self.assertEqual(self.client._open, [])

    def test_the_same_id_twice(self) -> None:
        self.batch(call(1, "wait"), call(1, "echo", text="a"))
        self.stage.go_on("a")
        self.client.pump()
        [found] = self.client.batches
        self.assertEqual([one["id"] for one in found], [1, 1])
        self.assertEqual(sum("error" in one for one in found), 1)

    def test_progress_goes_before(self) -> None:
        """What belongs to a part comes when it is told, the answers of all parts in one at the end."""
        sent = self.batch(
            call(1, "count", {"progressToken": "p"}),
            request(2, "ping"),
            call(3, "count", {"progressToken": "q"}),
        )
        self.client.pump()
        self.assertEqual(len(self.client.told("progress")), 6)
        self.assertEqual(set(self.answers()), {1, 2, 3})
        self.assertEqual(self.client.inbox[-1]["id"], 3)
        if self.client.on_http:
            self.assertEqual(sent.http.fields["content-type"], "text/event-stream")
            self.assertEqual(self.client._open, [])

    def test_questions(self) -> None:
        """A part may ask; the answer may come in a batch."""
        self.client = self.client_class(self.world)
        self.client.greet("2025-03-26", {"roots": {}})
        self.batch(call(10, "places"), request(11, "ping"))
        question = self.client.question()
        self.assertEqual(self.client.batches, [])
        answered = self.batch({"jsonrpc": "2.0", "id": question["id"], "result": {"roots": []}})
        self.assertEqual(set(self.answers()), {10, 11})
        if self.client.on_http:
            self.assertEqual((answered.http.status, self.client._open), (202, []))

    def test_too_many(self) -> None:
        """One error for all of it: a bound that no client meets."""
        sent = self.client.send([request(number, "ping") for number in range(101)])
        [answer] = sent.messages
        self.assertEqual(answer["error"]["code"], -32600)
        self.assertEqual(self.client.ask("ping").result, {})

    def test_the_stream_ends(self) -> None:
        """With the connection: on lines all parts are cancelled; over HTTP none is."""
        self.batch(call(1, "wait"), request(2, "ping"))
        self.client.leave()
        self.assertEqual(self.stage.cancelled, 0 if self.client.on_http else 1)
        if self.client.on_http:
            self.stage.go_on()
        self.assertEqual(self.world.house.server.in_flight, 0)


@each(OldOverHttp, revisions=("2025-03-26",))
class Resumed(Batching):
    def test_after_a_loss(self) -> None:
        """The answers of all parts can be fetched after the connection was lost."""
        counting = [call(number, "count", {"progressToken": number}) for number in (2, 3)]
        sent = self.batch(call(1, "wait"), counting[0], counting[1], request(4, "ping"))
        events = [name for name, _, _ in events_of(sent.http)]
        self.assertEqual(len(events), 6)
        self.assertEqual(len({name.rpartition(".")[0] for name in events}), 1, "they share one stream")
        self.client.lose(sent)
        self.stage.go_on("it")
        again = self.client.listen(events[4])
        self.assertEqual(again.messages[0]["params"]["progress"], 3)
        self.assertEqual(set(self.answers()), {1, 2, 3, 4})
        self.assertEqual(self.client._open, [])
