"""Questions to clients, and whether what comes back answers them."""

import importlib

import jsonschema_rs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.protocol import Question, check_answer

FORM = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1},
        "age": {"type": "integer", "minimum": 0},
        "tags": {"type": "array", "items": {"type": "string", "enum": ["a", "b"]}},
        "mail": {"type": "string", "format": "email"},
    },
    "required": ["name"],
}


class Builders(SynchronousTestCase):
    def test_forms(self):
        self.assertEqual(
            Question.elicit_form("Who?", FORM),
            {
                "method": "elicitation/create",
                "params": {"mode": "form", "message": "Who?", "requestedSchema": FORM},
            },
        )

    def test_urls(self):
        self.assertEqual(
            Question.elicit_url("Log in", "https://example.com"),
            {
                "method": "elicitation/create",
                "params": {"mode": "url", "message": "Log in", "url": "https://example.com"},
            },
        )

    def test_samples(self):
        message = {"role": "user", "content": {"type": "text", "text": "x"}}
        self.assertEqual(
            Question.sample([message], 5, systemPrompt="be brief", temperature=None),
            {
                "method": "sampling/createMessage",
                "params": {"messages": [message], "maxTokens": 5, "systemPrompt": "be brief"},
            },
        )

    def test_roots(self):
        self.assertEqual(Question.list_roots(), {"method": "roots/list"})


class Forms(SynchronousTestCase):
    question = Question.elicit_form("Who?", FORM)

    def check(self, **answer):
        return check_answer(self.question, answer)

    def test_answers_that_fit(self):
        self.assertIsNone(self.check(action="decline"))
        self.assertIsNone(self.check(action="cancel", content={"age": -1}))
        self.assertIsNone(self.check(action="accept", content={"name": "n"}))
        content = {"name": "n", "age": 3, "tags": ["a"], "mail": "a@example.com"}
        self.assertIsNone(self.check(action="accept", content=content, _meta={"x": 1}))

    def test_answers_that_do_not_fit_say_where(self):
        for answer, word in (
            ({}, "action"),
            ({"action": "agree"}, "$.action"),
            ({"action": "accept"}, "content"),
            ({"action": "accept", "content": None}, "$.content"),
            ({"action": "accept", "content": []}, "$.content"),
            ({"action": "accept", "content": {"name": {"nested": 1}}}, "$.content"),
            ({"action": "accept", "content": {"name": "n", "tags": [1]}}, "$.content"),
            ({"action": "accept", "content": {}}, '"name" is a required property'),
            ({"action": "accept", "content": {"name": ""}}, "$.content.name"),
            ({"action": "accept", "content": {"name": "n", "age": -1}}, "$.content.age"),
            ({"action": "accept", "content": {"name": "n", "tags": ["a", "z"]}}, "$.content.tags[1]"),
            ({"action": "accept", "content": {"name": "n", "mail": "nobody"}}, "$.content.mail"),
        ):
            self.assertIn(word, check_answer(self.question, answer) or "")

    def test_no_objects(self):
        for answer in (None, [], "accept", 1, True):
            self.assertIn("object", check_answer(self.question, answer))

    def test_a_url_needs_no_content(self):
        question = Question.elicit_url("Log in", "https://example.com")
        self.assertIsNone(check_answer(question, {"action": "accept"}))
        self.assertIn("$.action", check_answer(question, {"action": "yes"}))

    def test_a_missing_mode_means_form(self):
        question = {"method": "elicitation/create", "params": {"message": "m", "requestedSchema": FORM}}
        self.assertIn("name", check_answer(question, {"action": "accept", "content": {}}))

    def test_nothing_is_fetched_for_a_schema(self):
        for reference in ("http://127.0.0.1:9/schema.json", "file:///etc/hostname", "https://example.com/s"):
            schema = {"type": "object", "properties": {"a": {"$ref": reference}}}
            problem = check_answer(
                Question.elicit_form("m", schema), {"action": "accept", "content": {"a": "x"}}
            )
            self.assertIn("unusable", problem)
            self.assertIn(reference, problem)

    def test_unusable_schemas(self):
        for schema in ({"type": "objct"}, {"$schema": "http://example.com/none", "type": "object"}):
            problem = check_answer(Question.elicit_form("m", schema), {"action": "accept", "content": {}})
            self.assertIn("unusable", problem)

    def test_long_problems_are_cut(self):
        schema = {"type": "object", "properties": {"a": {"enum": ["x" * 5000]}}}
        problem = check_answer(Question.elicit_form("m", schema), {"action": "accept", "content": {"a": "y"}})
        self.assertLess(len(problem), 400)

    def test_the_memory_of_schemas_is_bounded(self):
        module = importlib.import_module("erlmcp.protocol._answers")
        for number in range(300):
            question = Question.elicit_form("m", {"type": "object", "title": str(number)})
            self.assertIsNone(check_answer(question, {"action": "accept", "content": {}}))
        self.assertLessEqual(len(module._validators), 256)
        before = len(module._validators)
        large = Question.elicit_form("m", {"type": "object", "title": "x" * 20_000})
        self.assertIsNone(check_answer(large, {"action": "accept", "content": {}}))
        self.assertEqual(len(module._validators), before)

    def test_a_schema_is_compiled_once(self):
        compiled = []
        original = jsonschema_rs.validator_for

        def counting(schema, **options):
            self.assertIs(options["offline"], True)
            compiled.append(schema)
            return original(schema, **options)

        self.patch(jsonschema_rs, "validator_for", counting)
        schema = {"type": "object", "title": "compiled once"}
        for _ in range(3):
            check_answer(Question.elicit_form("m", dict(schema)), {"action": "accept", "content": {}})
        self.assertEqual(compiled, [schema])

    @settings(deadline=None, max_examples=80)
    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(["action", "content", "role", "roots", "x"]), inner, max_size=4
                )
            ),
            max_leaves=8,
        )
    )
    def test_any_value_is_judged(self, answer):
        questions = (
            self.question,
            Question.elicit_url("m", "u"),
            Question.sample([], 1),
            Question.list_roots(),
        )
        for question in questions:
            self.assertIsInstance(check_answer(question, answer), str | None)


class Samples(SynchronousTestCase):
    question = Question.sample([], 10)

    def check(self, content, **more):
        return check_answer(self.question, {"role": "assistant", "model": "m", "content": content, **more})

    def test_answers_that_fit(self):
        text = {"type": "text", "text": "t", "annotations": {"priority": 1}}
        blocks = (
            text,
            {"type": "image", "data": "aGk=", "mimeType": "image/png"},
            {"type": "audio", "data": "aGk=", "mimeType": "audio/wav"},
            {"type": "tool_use", "id": "1", "name": "n", "input": {}},
            {"type": "tool_result", "toolUseId": "1", "content": [text], "isError": False},
        )
        for block in blocks:
            self.assertIsNone(self.check(block))
        self.assertIsNone(self.check(list(blocks), stopReason="endTurn"))
        self.assertIsNone(self.check([]))

    def test_answers_that_do_not_fit_say_where(self):
        text = {"type": "text", "text": "t"}
        for answer, word in (
            ({"role": "assistant", "content": text}, "model"),
            ({"role": "robot", "model": "m", "content": text}, "$.role"),
            ({"role": "user", "model": "m"}, "content"),
            ({"role": "user", "model": "m", "content": "t"}, "$.content"),
            ({"role": "user", "model": "m", "content": {"type": "video"}}, "$.content.type"),
            (
                {"role": "user", "model": "m", "content": [text, {"type": "image", "data": ""}]},
                "$.content[1]",
            ),
            ({"role": "user", "model": "m", "content": text, "stopReason": 1}, "$.stopReason"),
        ):
            self.assertIn(word, check_answer(self.question, answer) or "")


class Roots(SynchronousTestCase):
    question = Question.list_roots()

    def test_answers(self):
        self.assertIsNone(check_answer(self.question, {"roots": []}))
        self.assertIsNone(check_answer(self.question, {"roots": [{"uri": "file:///a", "name": "a"}]}))
        for answer, word in (
            ({}, "roots"),
            ({"roots": {}}, "$.roots"),
            ({"roots": [{"name": "a"}]}, "uri"),
            (
                {"roots": [{"uri": "file:///a"}, {"uri": "http://a"}]},
                "$.roots[1].uri must begin with file://",
            ),
        ):
            self.assertIn(word, check_answer(self.question, answer) or "")

    def test_no_question(self):
        self.assertIn("no question", check_answer({"method": "ping"}, {}))
