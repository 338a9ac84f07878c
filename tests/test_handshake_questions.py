"""What servers ask handshake clients, live: elicitation, sampling, roots; and what is never asked (client/*)."""

from typing import Any

from tests.interaction.handshake import ABLE, Handshake, OldOverHttp, each, events_of, known

ACCEPTED = {
    "guest": {"name": "Ann", "colour": "red"},
    "form": {"size": "s"},
    "several": {"toppings": ["ham"]},
}
LATER = ("2025-06-18", "2025-11-25")
SAMPLED: dict[str, Any] = {"role": "assistant", "content": {"type": "text", "text": "Hi"}, "model": "m"}


class Asking(Handshake):
    def with_capabilities(self, capabilities: dict[str, Any]) -> Any:
        self.client = self.client_class(self.world)
        self.client.greet(self.revision, known(capabilities, self.revision))
        return self.client

    def asked(self, sent: Any, method: str) -> Any:
        """The parameters of the one question that a call has led to."""
        question = self.client.question()
        self.assertEqual(question["method"], method)
        self.assertFalse(sent.answered)
        return question.get("params")

    def never_asked(self, sent: Any) -> None:
        """The call fails with an error of this era, and its client is not asked."""
        self.assertEqual(self.client.questions, [])
        response = sent.response
        self.assertTrue("error" in response or response["result"]["isError"], response)
        if self.client.on_http:
            self.assertEqual(sent.http.status if "error" in response and sent.code != -32600 else 200, 200)


@each(revisions=LATER)
class Forms(Asking):
    def test_of_a_class(self) -> None:
        sent = self.client.tool("guest")
        params = self.asked(sent, "elicitation/create")
        properties = params["requestedSchema"]["properties"]
        self.assertEqual(properties["colour"]["enum"], ["red", "green"])
        self.assertEqual("mode" in params, self.since("2025-11-25"))
        for name, default in (("age", 7), ("weight", 1.5), ("motto", "none")):
            self.assertEqual(properties[name].get("default"), default if self.since("2025-11-25") else None)
        self.assertIs(properties["sure"]["default"], True)
        self.client.respond(self.client.question(), {"action": "accept", "content": ACCEPTED["guest"]})
        self.assertIn("accept Visit(name='Ann', colour='red', age=7", sent.text)

    def test_titled_choices(self) -> None:
        """As ``oneOf`` in 2025-11-25, as ``enumNames`` before."""
        sent = self.client.tool("form")
        properties = self.asked(sent, "elicitation/create")["requestedSchema"]["properties"]
        if self.since("2025-11-25"):
            self.assertEqual(properties["size"]["oneOf"][1], {"const": "l", "title": "Large"})
            self.assertEqual(properties["size"]["default"], "l")
        else:
            self.assertEqual(properties["size"]["enum"], ["s", "l"])
            self.assertEqual(properties["size"]["enumNames"], ["Small", "Large"])
        self.assertEqual(properties["when"]["format"], "date-time")
        self.assertEqual(properties["count"]["minimum"], 1)
        self.client.respond(self.client.question(), {"action": "accept", "content": ACCEPTED["form"]})
        self.assertEqual(sent.text, "accept {'size': 's'}")

    def test_several_choices(self) -> None:
        """Only 2025-11-25 can ask for them."""
        sent = self.client.tool("several")
        if self.since("2025-11-25"):
            self.asked(sent, "elicitation/create")
            self.client.respond(self.client.question(), {"action": "accept", "content": ACCEPTED["several"]})
            self.assertEqual(sent.text, "accept {'toppings': ['ham']}")
        else:
            self.never_asked(sent)

    def test_answers(self) -> None:
        for action in ("decline", "cancel"):
            sent = self.client.tool("form")
            self.client.respond(self.client.question(), {"action": action})
            self.assertEqual(sent.text, f"{action} None")

    def test_answers_that_do_not_fit(self) -> None:
        for wrong in (
            {"action": "accept"},
            {"action": "accept", "content": {"size": "xl"}},
            {"action": "accept", "content": {}},
            {"action": "perhaps"},
            {},
        ):
            sent = self.client.tool("form")
            self.client.respond(self.client.question(), wrong, valid=False)
            self.assertTrue("error" in sent.response or sent.result["isError"], wrong)

    def test_an_error(self) -> None:
        sent = self.client.tool("form")
        self.client.respond(self.client.question(), error={"code": -1, "message": "No user"})
        self.assertIn("No user", str(sent.response))

    def test_two_rounds(self) -> None:
        sent = self.client.tool("register")
        for name in ("Ann", "Bob"):
            self.client.respond(self.client.question(), {"action": "accept", "content": {"name": name}})
        self.assertEqual(sent.text, "Ann and Bob come to the party")
        self.assertEqual(len(self.client.questions), 2)
        self.assertEqual(len({one["id"] for one in self.client.questions}), 2)

    def test_two_at_once(self) -> None:
        """In either order; the call goes on when both are answered."""
        sent = self.client.tool("both")
        self.client.pump()
        form, roots = self.client.questions
        self.client.respond(roots, {"roots": [{"uri": "file:///a"}]})
        self.assertFalse(sent.answered)
        self.client.respond(form, {"action": "accept", "content": ACCEPTED["form"]})
        self.assertEqual(sent.text, "accept 1")

    def test_other_methods_may_ask_too(self) -> None:
        read = self.client.ask("resources/read", {"uri": "asking://resource"})
        self.client.respond(self.client.question(), {"action": "accept", "content": {"value": True}})
        self.assertEqual(read.result["contents"][0]["text"], "sure: True")
        got = self.client.ask("prompts/get", {"name": "interview"})
        self.client.respond(self.client.question(), {"action": "decline"})
        self.assertEqual(got.result["messages"][0]["content"]["text"], "About None")

    def test_given_up(self) -> None:
        """A call that is cancelled takes its question back, and an answer that comes then is taken and dropped."""
        sent = self.client.tool("form", id=5)
        question = self.client.question()
        self.client.tell("notifications/cancelled", {"requestId": 5})
        self.client.respond(question, {"action": "decline"})
        self.assertFalse(sent.answered)
        self.assertEqual(len(self.world.house.server.questions), 0)

    def test_never_answered(self) -> None:
        self.again(self.ornate.provider, answer_limit=30)
        sent = self.client.tool("form")
        question = self.client.question()
        self.world.turn(31)
        self.assertTrue("error" in sent.response or sent.result["isError"])
        [told] = self.client.told("cancelled")
        self.assertEqual(told["params"]["requestId"], question["id"])


@each()
class Capabilities(Asking):
    def test_not_declared(self) -> None:
        """ "Servers MUST NOT" ask what was not declared: the call fails instead."""
        for tool, needed in (
            ("form", "elicitation"),
            ("page", "elicitation"),
            ("sample", "sampling"),
            ("places", "roots"),
        ):
            client = self.with_capabilities({name: one for name, one in ABLE.items() if name != needed})
            self.never_asked(client.tool(tool))

    def test_not_in_the_revision(self) -> None:
        """What a revision does not have cannot be asked in it, whatever its client declares."""
        client: Any = self.client_class(self.world)
        self.client = client
        client.greet(self.revision, ABLE, valid=False)
        for tool, since in (("form", "2025-06-18"), ("page", "2025-11-25"), ("several", "2025-11-25")):
            if not self.since(since):
                self.never_asked(client.tool(tool))
        if not self.since("2025-11-25"):
            self.never_asked(client.tool("sample", {"tools": True}))

    def test_forms_alone(self) -> None:
        client = self.with_capabilities({"elicitation": {"form": {}}})
        self.never_asked(client.tool("page"))

    def test_pages_alone(self) -> None:
        if self.since("2025-11-25"):
            client = self.with_capabilities({"elicitation": {"url": {}}})
            self.never_asked(client.tool("form"))
            client.tool("page")
            self.assertEqual(len(client.questions), 1)


@each(revisions=("2025-11-25",))
class Pages(Asking):
    def test_visited(self) -> None:
        ids = set()
        for action in ("accept", "decline", "cancel"):
            sent = self.client.tool("page")
            params = self.asked(sent, "elicitation/create")
            self.assertEqual(
                (params["mode"], params["url"], params["message"]), ("url", "https://example.com/x", "There.")
            )
            ids.add(params["elicitationId"])
            self.client.respond(self.client.question(), {"action": action})
            self.assertEqual(sent.text, action)
        self.assertEqual(len(ids), 3)

    def test_an_empty_capability_means_forms(self) -> None:
        client = self.with_capabilities({"elicitation": {}})
        self.never_asked(client.tool("page"))
        client.tool("form")
        self.assertEqual(len(client.questions), 1)


@each()
class Sampling(Asking):
    def test_plain(self) -> None:
        sent = self.client.tool("sample")
        params = self.asked(sent, "sampling/createMessage")
        self.assertEqual([one["content"]["type"] for one in params["messages"]], ["text", "image"])
        self.assertEqual(
            (params["maxTokens"], params["systemPrompt"], params["stopSequences"]), (10, "Be brief.", ["."])
        )
        self.assertEqual(params["modelPreferences"], {"hints": [{"name": "small"}], "speedPriority": 1})
        self.client.respond(self.client.question(), {**SAMPLED, "stopReason": "endTurn"})
        self.assertEqual(sent.text, "m endTurn")

    def test_answers(self) -> None:
        contents: list[Any] = [
            {"type": "text", "text": "a"},
            {"type": "image", "data": "AAAA", "mimeType": "image/png"},
        ]
        if self.since("2025-03-26"):
            contents.append({"type": "audio", "data": "AAAA", "mimeType": "audio/wav"})
        if self.since("2025-11-25"):
            contents.append([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}])
        for content in contents:
            sent = self.client.tool("sample")
            self.client.respond(self.client.question(), {**SAMPLED, "content": content})
            self.assertEqual(sent.text, "m None")

    def test_answers_that_do_not_fit(self) -> None:
        for wrong in ({}, {**SAMPLED, "content": {"type": "text"}}, {**SAMPLED, "role": "system"}):
            sent = self.client.tool("sample")
            self.client.respond(self.client.question(), wrong, valid=False)
            self.assertTrue("error" in sent.response or sent.result["isError"], wrong)

    def test_with_tools(self) -> None:
        """Only in 2025-11-25."""
        sent = self.client.tool("sample", {"tools": True})
        if not self.since("2025-11-25"):
            self.never_asked(sent)
            return
        params = self.asked(sent, "sampling/createMessage")
        self.assertEqual((params["tools"][0]["name"], params["toolChoice"]), ("look", {"mode": "auto"}))
        content = [{"type": "tool_use", "id": "1", "name": "look", "input": {}}]
        self.client.respond(self.client.question(), {**SAMPLED, "content": content, "stopReason": "toolUse"})
        self.assertEqual(sent.text, "m toolUse")

    def test_with_context(self) -> None:
        """Every client that samples may be asked for context before 2025-11-25, there one that declares it."""
        sent = self.client.tool("sample", {"context": True})
        self.assertEqual(self.asked(sent, "sampling/createMessage")["includeContext"], "thisServer")
        client = self.with_capabilities({"sampling": {}})
        sent = client.tool("sample", {"context": True})
        if self.since("2025-11-25"):
            self.never_asked(sent)
        else:
            self.asked(sent, "sampling/createMessage")


@each()
class Roots(Asking):
    def test_listed(self) -> None:
        sent = self.client.tool("places")
        self.asked(sent, "roots/list")
        self.client.respond(
            self.client.question(), {"roots": [{"uri": "file:///a", "name": "A"}, {"uri": "file:///b"}]}
        )
        self.assertEqual(sent.text, "file:///a A file:///b None")

    def test_none(self) -> None:
        sent = self.client.tool("places")
        self.client.respond(self.client.question(), {"roots": []})
        self.assertEqual(sent.result["content"], [{"type": "text", "text": ""}])

    def test_answers_that_do_not_fit(self) -> None:
        for wrong in ({}, {"roots": [{"uri": "https://a"}]}, {"roots": 5}):
            sent = self.client.tool("places")
            self.client.respond(self.client.question(), wrong, valid=False)
            self.assertTrue("error" in sent.response or sent.result["isError"], wrong)


@each()
class Answering(Asking):
    def test_nobody_has_asked(self) -> None:
        """A response that nobody waits for is taken, and nothing comes of it."""
        before = len(self.client.inbox)
        for number in (1, "x", "1.1"):
            told = self.client.send({"jsonrpc": "2.0", "id": number, "result": {}})
            if self.client.on_http:
                self.assertEqual((told.http.status, told.http.body), (202, b""))
        self.assertEqual(len(self.client.inbox), before)

    def test_of_another_session(self) -> None:
        sent = self.client.tool("places")
        question = self.client.question()
        self.connect().respond(question, {"roots": []})
        self.assertFalse(sent.answered)
        self.client.respond(question, {"roots": [{"uri": "file:///mine"}]})
        self.assertEqual(sent.text, "file:///mine None")

    def test_twice(self) -> None:
        sent = self.client.tool("places")
        question = self.client.question()
        for uri in ("file:///a", "file:///b"):
            self.client.respond(question, {"roots": [{"uri": uri}]})
        self.assertEqual(sent.text, "file:///a None")

    def test_calls_go_on_meanwhile(self) -> None:
        sent = self.client.tool("places")
        self.assertEqual(self.client.tool("echo", {"text": "a"}).text, "a")
        other = self.client.tool("places")
        first, second = self.client.questions
        self.client.respond(second, {"roots": [{"uri": "file:///2"}]})
        self.assertEqual(other.text, "file:///2 None")
        self.client.respond(first, {"roots": [{"uri": "file:///1"}]})
        self.assertEqual(sent.text, "file:///1 None")


@each(OldOverHttp)
class OverHttp(Asking):
    def test_on_the_stream_of_the_call(self) -> None:
        """A question is an event of the stream of the call that caused it, and of no other."""
        heard = self.client.listen()
        sent = self.client.tool("places")
        self.assertEqual([one["method"] for one in sent.messages], ["roots/list"])
        self.assertEqual(heard.messages, [])
        answered = self.client.respond(self.client.question(), {"roots": []})
        self.assertEqual((answered.http.status, answered.http.body), (202, b""))
        self.assertEqual(len(sent.messages), 2)

    def test_no_stream_to_ask_on(self) -> None:
        sent = self.client.tool("places", headers={"Accept": "application/json"})
        self.never_asked(sent)
        self.assertIn("text/event-stream", str(sent.response))

    def test_asked_while_the_connection_is_lost(self) -> None:
        """The question is kept for the client that comes back, which answers it."""
        call = self.client.tool("register") if self.since("2025-06-18") else self.client.tool("places")
        question = self.client.question()
        self.client.lose(call)
        if question["method"] == "roots/list":
            self.client.respond(question, {"roots": []})
        else:
            self.client.respond(question, {"action": "decline"})
        [first] = [name for name, _, message in events_of(call.http) if message == question]
        again = self.client.listen(first)
        self.assertEqual([one["id"] for one in again.messages], [call.id])
