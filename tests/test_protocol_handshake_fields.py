"""The table of fields against the published schemas, and what is made after it against each revision's schema."""

import json
from typing import Any

import hypothesis.strategies as st
import msgspec
from hypothesis import HealthCheck, given, settings
from msgspec import Raw
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.protocol import (
    REVISIONS,
    Revision,
    down,
    down_definition,
    down_question,
    initialize_result,
)
from erlmcp.protocol._fields import FIELDS, known_fields
from tests.published_schemas import MODERN, definition, need_schemas, problem, values
from tests.skips import SCHEMAS

#: What a schema has and is not offered: the tasks of 2025-11-25, and `_meta` of requests, which is the hop's own.
NOT_OFFERED = {
    "Tool": {"execution"},
    "ServerCapabilities": {"tasks"},
    "CreateMessageRequestParams": {"task", "_meta"},
    "ElicitRequestFormParams": {"task", "_meta"},
    "ElicitRequestURLParams": {"task", "_meta"},
}
RESULTS = {
    "tools/list": "ListToolsResult",
    "tools/call": "CallToolResult",
    "resources/list": "ListResourcesResult",
    "resources/templates/list": "ListResourceTemplatesResult",
    "resources/read": "ReadResourceResult",
    "prompts/list": "ListPromptsResult",
    "prompts/get": "GetPromptResult",
    "completion/complete": "CompleteResult",
}
NOTIFICATIONS = {
    "notifications/progress": "ProgressNotification",
    "notifications/message": "LoggingMessageNotification",
    "notifications/resources/updated": "ResourceUpdatedNotification",
    "notifications/cancelled": "CancelledNotification",
    "notifications/tools/list_changed": "ToolListChangedNotification",
    "notifications/prompts/list_changed": "PromptListChangedNotification",
    "notifications/resources/list_changed": "ResourceListChangedNotification",
}
ENTRIES = {
    "tools/list": "Tool",
    "resources/list": "Resource",
    "resources/templates/list": "ResourceTemplate",
    "prompts/list": "Prompt",
}
QUESTIONS = {
    "sampling/createMessage": "CreateMessageRequest",
    "elicitation/create": "ElicitRequest",
    "roots/list": "ListRootsRequest",
}

revisions = st.sampled_from(list(REVISIONS.values()))
newer = st.sampled_from([REVISIONS["2025-06-18"], REVISIONS["2025-11-25"]])
moderate = settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow])


def raw(value: Any) -> Raw:
    return Raw(msgspec.json.encode(value))


def plain(value: Any) -> Any:
    """As it would be sent."""
    return json.loads(msgspec.json.encode(value))


class Fields(SynchronousTestCase):
    """The table says what the schemas say."""

    def setUp(self) -> None:
        need_schemas()

    def published(self, revision: Revision, name: str) -> set[str] | None:
        """The fields that a revision's schema has for a definition, None if it has no such definition."""
        found = definition(revision.name, name)
        if found is None:
            return None
        fields = set(found["properties"]) - NOT_OFFERED.get(name, set())
        if name.endswith("NotificationParams"):
            # Before 2025-11-25 the parts of a notification do not repeat what all have.
            fields.add("_meta")
        return fields

    def test_each_definition_in_each_revision(self) -> None:
        compared = 0
        for revision in REVISIONS.values():
            for name in FIELDS:
                published = self.published(revision, name)
                if published is not None:
                    compared += 1
                    known = set(known_fields(name, revision.rank))
                    self.assertEqual(known, published, f"{name} of {revision.name}")
        self.assertGreater(compared, 130)

    def test_each_definition_is_in_the_newest(self) -> None:
        for name in FIELDS:
            self.assertIsNotNone(self.published(REVISIONS["2025-11-25"], name), name)

    def test_what_the_modern_revision_has_new_is_known_here(self) -> None:
        """A field of 2026-07-28 that the table lacks is one that it knows to be new there."""
        new = {"resultType", "ttlMs", "cacheScope", "extensions"}
        for name in FIELDS:
            found = definition(MODERN, name)
            if found is not None:
                self.assertLessEqual(set(found["properties"]) - set(FIELDS[name]) - {"_meta"}, new, name)


class Validity(SynchronousTestCase):
    """What is valid in 2026-07-28 comes out valid in the older revision, and knows nothing that it does not."""

    def setUp(self) -> None:
        need_schemas()

    def check(self, revision: Revision, name: str, value: Any) -> None:
        self.assertIsNone(problem(revision.name, name, value))
        self.assertIsNone(problem(revision.name, name, value, strict=True))


def _of(names: dict[str, str]) -> st.SearchStrategy[tuple[str, Any]]:
    """A kind, and a modern value of it. Empty where the schemas are not there: the test skips."""
    if not SCHEMAS.exists():
        return st.nothing()
    return st.one_of([st.tuples(st.just(kind), values(MODERN, name)) for kind, name in names.items()])


class Results(Validity):
    @given(_of(RESULTS), revisions, st.booleans())
    @moderate
    def test_results(self, made: tuple[str, Any], revision: Revision, encoded: bool) -> None:
        kind, value = made
        self.assertIsNone(problem(MODERN, RESULTS[kind], value))
        before = plain(value)
        found = plain(down(kind, raw(value) if encoded else value, revision))
        self.assertEqual(plain(value), before)
        self.check(revision, RESULTS[kind], found)
        self.assertEqual(plain(down(kind, found, revision)), found)

    @given(_of({"tools/call": "CallToolResult"}), revisions)
    @moderate
    def test_tool_results(self, made: tuple[str, Any], revision: Revision) -> None:
        self.check(revision, "CallToolResult", plain(down(*made, revision)))

    @given(_of(RESULTS), revisions)
    @moderate
    def test_what_is_encoded_makes_no_difference(self, made: tuple[str, Any], revision: Revision) -> None:
        kind, value = made
        partly = {name: raw(part) for name, part in value.items()}
        entries = {
            name: [raw(one) for one in part] if isinstance(part, list) else part
            for name, part in value.items()
        }
        wanted = plain(down(kind, value, revision))
        for other in (raw(value), partly, entries):
            self.assertEqual(plain(down(kind, other, revision)), wanted)

    @given(_of(NOTIFICATIONS), revisions)
    @moderate
    def test_notifications(self, made: tuple[str, Any], revision: Revision) -> None:
        kind, value = made
        params = down(kind, value.get("params", {}), revision)
        found = plain({"jsonrpc": "2.0", "method": kind, "params": params})
        self.check(revision, NOTIFICATIONS[kind], found)

    @given(_of(ENTRIES), revisions)
    @moderate
    def test_definitions(self, made: tuple[str, Any], revision: Revision) -> None:
        kind, value = made
        found = plain(down_definition(kind, raw(value), revision))
        self.check(revision, ENTRIES[kind], found)
        self.assertEqual(found, plain(down_definition(kind, raw(value), revision)))

    @given(_of({"elicitation/create": "ElicitRequest"}) | _of(QUESTIONS), newer)
    @moderate
    def test_questions_that_can_be_asked(self, made: tuple[str, Any], revision: Revision) -> None:
        method, question = made
        found = down_question(question, revision)
        if found is not None:
            self.check(revision, QUESTIONS[method], plain({"jsonrpc": "2.0", "id": 1, **found}))

    @given(_of(QUESTIONS), revisions)
    @moderate
    def test_questions(self, made: tuple[str, Any], revision: Revision) -> None:
        method, question = made
        before = plain(question)
        found = down_question(question, revision)
        self.assertEqual(plain(question), before)
        if found is not None:
            self.check(revision, QUESTIONS[method], plain({"jsonrpc": "2.0", "id": 1, **found}))
        else:
            self.assertFalse(
                method == "roots/list" or (method, revision.rank) == ("sampling/createMessage", 3)
            )

    @given(
        _of({"server/discover": "ServerCapabilities"}),
        _of({"server/discover": "Implementation"}),
        revisions,
        st.sampled_from([None, "", "Use it."]),
    )
    @moderate
    def test_initialize(
        self, declared: tuple[str, Any], info: tuple[str, Any], revision: Revision, instructions: str | None
    ) -> None:
        found = plain(initialize_result(revision, declared[1], info[1], instructions))
        self.check(revision, "InitializeResult", found)
        self.assertEqual(found["protocolVersion"], revision.name)
        self.assertEqual("instructions" in found, bool(instructions))
        self.assertNotIn("tasks", found["capabilities"])
