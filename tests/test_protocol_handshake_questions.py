"""Questions to clients of handshake revisions: what is left of them, and which cannot be asked."""

from typing import Any, ClassVar

import msgspec
from msgspec import Raw
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.protocol import REVISIONS, Question, check_answer, down_question

OLDEST, BATCHING, FORMS, NEWEST = REVISIONS.values()
ALL = (OLDEST, BATCHING, FORMS, NEWEST)


def form(**properties: Any) -> dict[str, Any]:
    return Question.elicit_form(
        "Which?",
        {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": properties,
            "required": list(properties),
        },
    )


class Forms(SynchronousTestCase):
    TITLED: ClassVar = {
        "type": "string",
        "title": "Colour",
        "oneOf": [{"const": "#f00", "title": "Red"}, {"const": "#0f0", "title": "Green"}],
        "default": "#f00",
    }
    SEVERAL: ClassVar = {"type": "array", "items": {"type": "string", "enum": ["a", "b"]}}

    def fields(self, revision, **properties):
        found = down_question(form(**properties), revision)
        return None if found is None else found["params"]["requestedSchema"]["properties"]

    def test_before_2025_06_18_there_is_none(self):
        for revision in (OLDEST, BATCHING):
            self.assertIsNone(down_question(form(a={"type": "boolean"}), revision))

    def test_in_2025_11_25_it_is_the_same(self):
        asked = form(a={**self.TITLED, "pattern": "x"}, b=self.SEVERAL)
        self.assertEqual(down_question(asked, NEWEST), asked)

    def test_in_2025_06_18_it_has_no_mode_and_no_dialect(self):
        found = down_question(form(a={"type": "boolean"}), FORMS)
        self.assertEqual(
            found,
            {
                "method": "elicitation/create",
                "params": {
                    "message": "Which?",
                    "requestedSchema": {
                        "type": "object",
                        "properties": {"a": {"type": "boolean"}},
                        "required": ["a"],
                    },
                },
            },
        )

    def test_in_2025_06_18_only_a_boolean_has_a_default(self):
        found = self.fields(
            FORMS,
            a={
                "type": "string",
                "title": "A",
                "format": "email",
                "maxLength": 9,
                "pattern": "x",
                "default": "x",
            },
            b={"type": "integer", "minimum": 0, "default": 5},
            c={"type": "number", "maximum": 0.5, "default": 0.1},
            d={"type": "boolean", "description": "D", "default": True},
            e={"type": "string", "enum": ["x", "y"], "enumNames": ["X", "Y"], "default": "x"},
        )
        self.assertEqual(
            found,
            {
                "a": {"type": "string", "title": "A", "format": "email", "maxLength": 9},
                "b": {"type": "integer", "minimum": 0},
                "c": {"type": "number", "maximum": 0.5},
                "d": {"type": "boolean", "description": "D", "default": True},
                "e": {"type": "string", "enum": ["x", "y"], "enumNames": ["X", "Y"]},
            },
        )

    def test_in_2025_06_18_titled_choices_are_two_lists(self):
        for field in (self.TITLED, Raw(msgspec.json.encode(self.TITLED))):
            found = self.fields(FORMS, a=field)
            self.assertEqual(
                msgspec.json.decode(msgspec.json.encode(found)),
                {
                    "a": {
                        "type": "string",
                        "title": "Colour",
                        "enum": ["#f00", "#0f0"],
                        "enumNames": ["Red", "Green"],
                    }
                },
            )
        # An answer to it is one to the original question.
        original = form(a=self.TITLED)
        self.assertIsNone(check_answer(original, {"action": "accept", "content": {"a": "#0f0"}}))
        self.assertIsNotNone(check_answer(original, {"action": "accept", "content": {"a": "Green"}}))

    def test_in_2025_06_18_several_choices_cannot_be_asked_for(self):
        self.assertIsNone(self.fields(FORMS, a={"type": "boolean"}, b=self.SEVERAL))

    def test_in_2025_06_18_what_is_no_field_cannot_be_asked_for(self):
        for odd in ({}, {"type": "object"}, {"type": 5}, 5, {"type": "string", "oneOf": [{"const": "a"}]}):
            self.assertIsNone(self.fields(FORMS, a=odd))


class Visits(SynchronousTestCase):
    def test_only_2025_11_25_has_them(self):
        asked = Question.elicit_url("Sign in", "https://example.com/a")
        for revision in (OLDEST, BATCHING, FORMS):
            self.assertIsNone(down_question(asked, revision))
        one, two = (down_question(asked, NEWEST)["params"] for _ in range(2))
        self.assertNotEqual(one.pop("elicitationId"), two.pop("elicitationId"))
        self.assertEqual(one, {"mode": "url", "message": "Sign in", "url": "https://example.com/a"})

    def test_an_id_of_its_own_stays(self):
        asked = Question.elicit_url("Sign in", "https://example.com/a")
        asked["params"]["elicitationId"] = "mine"
        self.assertEqual(down_question(asked, NEWEST)["params"]["elicitationId"], "mine")


class Sampling(SynchronousTestCase):
    TEXT: ClassVar = {"type": "text", "text": "a"}
    AUDIO: ClassVar = {"type": "audio", "data": "AAAA", "mimeType": "audio/wav"}
    TOOL: ClassVar = {"name": "t", "inputSchema": {"type": "object"}, "outputSchema": {"type": "array"}}

    def params(self, revision, *messages, **options):
        found = down_question(Question.sample(messages, 10, **options), revision)
        return None if found is None else found["params"]

    def test_the_usual_question_is_the_same_everywhere(self):
        message = {"role": "user", "content": self.TEXT}
        for revision in ALL:
            found = self.params(
                revision, message, systemPrompt="s", includeContext="thisServer", temperature=0.5
            )
            self.assertEqual(
                found,
                {
                    "messages": [message],
                    "maxTokens": 10,
                    "systemPrompt": "s",
                    "includeContext": "thisServer",
                    "temperature": 0.5,
                },
            )

    def test_several_blocks_are_several_messages_before_2025_11_25(self):
        message = {"role": "user", "content": [self.TEXT, self.AUDIO], "_meta": {"a": 1}}
        self.assertEqual(self.params(NEWEST, message)["messages"], [message])
        for revision in (BATCHING, FORMS):
            self.assertEqual(
                self.params(revision, message)["messages"],
                [{"role": "user", "content": self.TEXT}, {"role": "user", "content": self.AUDIO}],
            )
        second = self.params(OLDEST, message)["messages"][1]["content"]
        self.assertEqual(second, {"type": "text", "text": "[audio, audio/wav, 3 bytes]"})

    def test_tools_before_2025_11_25(self):
        message = {"role": "user", "content": self.TEXT}
        for revision in (OLDEST, BATCHING, FORMS):
            self.assertIsNone(self.params(revision, message, tools=[self.TOOL]))
            self.assertIsNone(self.params(revision, message, tools=[self.TOOL], toolChoice={"mode": "auto"}))
            for options in ({"tools": []}, {"tools": [self.TOOL], "toolChoice": {"mode": "none"}}):
                self.assertEqual(
                    self.params(revision, message, **options), {"messages": [message], "maxTokens": 10}
                )

    def test_tools_in_2025_11_25(self):
        used = {"type": "tool_use", "id": "1", "name": "t", "input": {}}
        result = {"type": "tool_result", "toolUseId": "1", "content": [self.TEXT], "structuredContent": [1]}
        found = self.params(
            NEWEST,
            {"role": "assistant", "content": used},
            {"role": "user", "content": [result]},
            tools=[self.TOOL],
        )
        self.assertEqual(
            found["messages"],
            [
                {"role": "assistant", "content": used},
                {"role": "user", "content": [{**result, "structuredContent": {"result": [1]}}]},
            ],
        )
        self.assertEqual(found["tools"][0]["outputSchema"]["required"], ["result"])

    def test_use_of_tools_is_told_as_text_before_2025_11_25(self):
        used = {"type": "tool_use", "id": "1", "name": "t", "input": {}}
        for content in (used, [used]):
            found = self.params(FORMS, {"role": "assistant", "content": content})["messages"]
            text = '{"type":"tool_use","id":"1","name":"t","input":{}}'
            self.assertEqual(found, [{"role": "assistant", "content": {"type": "text", "text": text}}])

    def test_what_is_no_block(self):
        result = {"type": "tool_result", "toolUseId": "1", "content": 5}
        found = self.params(NEWEST, {"role": "user", "content": result})
        self.assertEqual(found["messages"], [{"role": "user", "content": result}])


class Others(SynchronousTestCase):
    def test_roots(self):
        for revision in ALL:
            for asked in (Question.list_roots(), {"method": "roots/list", "params": {"_meta": {}}}):
                self.assertEqual(down_question(asked, revision), {"method": "roots/list"})

    def test_what_no_client_can_be_asked(self):
        for revision in ALL:
            self.assertIsNone(down_question({"method": "ping"}, revision))
