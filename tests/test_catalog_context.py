"""Context: progress, logs, questions, cancellation; and the forms that questions are."""

import dataclasses
import datetime as dt
import enum
from typing import Annotated, Any, Literal, NotRequired, TypedDict

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.trial.unittest import SynchronousTestCase

from erlmcp import Context, Field, InputDeclined, Message, Provider
from erlmcp.catalog import InexpressibleHint
from erlmcp.catalog._context import ThreadContext
from erlmcp.catalog._forms import check_form, form
from erlmcp.interfaces import ANONYMOUS
from erlmcp.protocol import McpError
from tests.catalog_calls import Conversation, call, request, text


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass
class Order:
    item: str
    count: Annotated[int, Field(gt=0, lt=10)] = 1
    when: dt.date | None = None
    colour: Colour = Colour.RED
    extras: list[Literal["gift", "fast"]] = dataclasses.field(default_factory=list)


class Contact(TypedDict):
    email: str
    phone: NotRequired[str | None]


class FormTests(SynchronousTestCase):
    """The restricted schema (revision 2026-07-28, client/elicitation, Requested Schema)."""

    def test_class(self) -> None:
        self.assertEqual(
            form(Order).schema,
            {
                "type": "object",
                "properties": {
                    "item": {"type": "string"},
                    "count": {"type": "integer", "minimum": 1, "maximum": 9, "default": 1},
                    "when": {"type": "string", "format": "date"},
                    "colour": {"type": "string", "enum": ["red", "blue"], "default": "red"},
                    "extras": {"type": "array", "items": {"type": "string", "enum": ["gift", "fast"]}},
                },
                "required": ["item"],
            },
        )
        order = form(Order).read({"item": "x", "count": 2.0, "when": "2026-07-28", "unknown": 1})
        self.assertEqual(order, Order("x", 2, dt.date(2026, 7, 28)))

    def test_typed_dict(self) -> None:
        found = form(Contact)
        self.assertEqual(
            found.schema["properties"], {"email": {"type": "string"}, "phone": {"type": "string"}}
        )
        self.assertEqual(found.read({"email": "a@b"}), {"email": "a@b"})

    def test_scalars(self) -> None:
        for kind, schema, content, value in (
            (str, {"type": "string"}, "x", "x"),
            (int, {"type": "integer"}, 1.0, 1),
            (bool, {"type": "boolean"}, True, True),
            (Colour, {"type": "string", "enum": ["red", "blue"]}, "red", Colour.RED),
            (
                Annotated[float, Field(ge=0, le=1, title="share")],
                {"type": "number", "minimum": 0, "maximum": 1, "title": "share"},
                1,
                1.0,
            ),
            (
                Annotated[int, Field(ge=5, gt=0, le=7, lt=100)],
                {"type": "integer", "minimum": 5, "maximum": 7},
                6,
                6,
            ),
        ):
            found = form(kind)
            self.assertEqual(
                found.schema,
                {"type": "object", "properties": {"value": schema}, "required": ["value"]},
            )
            self.assertEqual(found.read({"value": content}), value)

    def test_own_schema(self) -> None:
        schema = {
            "type": "object",
            "properties": {
                "titled": {"type": "string", "oneOf": [{"const": "a", "title": "A"}]},
                "legacy": {"type": "string", "enum": ["a"], "enumNames": ["A"]},
                "many": {"type": "array", "items": {"anyOf": [{"const": "a", "title": "A"}]}, "minItems": 1},
                "mail": {"type": "string", "format": "email", "maxLength": 50},
            },
            "required": ["mail"],
        }
        self.assertEqual(form(schema).schema, schema)
        self.assertEqual(form(schema).read({"mail": "x"}), {"mail": "x"})

    def test_refused(self) -> None:
        """The error names the field."""

        def fields(**kinds: Any) -> type:
            return dataclasses.make_dataclass("Asked", list(kinds.items()))

        def raw(**body: Any) -> dict[str, Any]:
            return {"type": "object", "properties": {"f": body}}

        for kind, words in (
            (fields(f=Order), "form field 'f' "),
            (fields(f=list[str]), "'f' is a list of something else than choices"),
            (fields(f=Literal[1, 2]), "'f' has choices that are not strings"),
            (fields(f=Literal[1, "a"]), "'f' is not of one primitive type"),
            (fields(f=int | str), "'f' is not of one primitive type"),
            (fields(f=int | str | None), "default"),
            (fields(f=bytes), "'f' uses contentEncoding, pattern"),
            (fields(f=dt.timedelta), "'f' has the format 'duration'"),
            (fields(f=Annotated[str, Field(pattern="x")]), "'f' uses pattern"),
            (fields(f=Annotated[float, Field(gt=0)]), "'f' uses exclusiveMinimum"),
            (fields(f=int | None), "a form cannot answer null"),
            (fields(f=complex | set[list[int]]), "form Asked"),
            (dict[str, int], "object"),
            ({"type": "string"}, "a form is"),
            (raw() | {"allOf": []}, "a form has no 'allOf'"),
            (raw(type="string") | {"required": ["g"]}, "requires 'g'"),
            (raw(), "'f' is not of one primitive type"),
            (raw(type="string", oneOf=[{"title": "no const"}]), "choices that are not strings"),
            (raw(type="array"), "list of something else"),
            ({"type": "object", "properties": {"f": True}}, "'f' is not of one primitive type"),
        ):
            error = self.assertRaises(InexpressibleHint, form, kind)
            self.assertIn(words, str(error))

    def test_optional_choice_of_kinds(self) -> None:
        """A field that may be absent still needs one type."""
        made = dataclasses.make_dataclass("Asked", [("f", int | str | None, None)])
        self.assertIn("'f' ", str(self.assertRaises(InexpressibleHint, form, made)))
        self.assertRaises(
            InexpressibleHint, check_form, {"type": "object", "properties": {"f": {"type": "null"}}}
        )


class ContextTests(SynchronousTestCase):
    """What a handler does on its way."""

    def asking(self, kind: Any, answer: Any, key: str | None = None) -> tuple[Any, Conversation]:
        name = key or "ask-1"
        conversation = Conversation({name: answer})
        ctx = Context(request("tools/call", conversation=conversation))
        return ensureDeferred(ctx.elicit("Sure?", kind, key)), conversation

    def test_progress_and_logs_act_at_once(self) -> None:
        """They need no await, and allow it."""
        provider = Provider("p")

        @provider.tool
        async def tool(ctx: Context) -> str:
            ctx.report_progress(1)
            await ctx.report_progress(2, 3, "two")
            ctx.debug("d")
            ctx.info({"k": 1}, "me")
            ctx.warning("w")
            ctx.error("e")
            await ctx.log("notice", "n")
            ctx.leave()
            await ctx.leave()
            return "done"

        conversation = Conversation()
        self.assertEqual(text(call(provider, "tool", conversation=conversation)), "done")
        self.assertEqual(
            conversation.said,
            [
                ("progress", 1, None, None),
                ("progress", 2, 3, "two"),
                ("log", "debug", "d", None),
                ("log", "info", {"k": 1}, "me"),
                ("log", "warning", "w", None),
                ("log", "error", "e", None),
                ("log", "notice", "n", None),
                ("leave",),
                ("leave",),
            ],
        )
        self.assertEqual(text(call(provider, "tool")), "done", "without a client nothing is sent")

    def test_elicit(self) -> None:
        deferred, conversation = self.asking(Order, {"action": "accept", "content": {"item": "x"}}, "order")
        answer = self.successResultOf(deferred)
        self.assertEqual((answer.action, answer.data), ("accept", Order("x")))
        self.assertTrue(answer.accepted)
        self.assertEqual(answer.required(), Order("x"))
        (asked,) = conversation.asked
        self.assertEqual(
            asked["order"],
            {
                "method": "elicitation/create",
                "params": {"mode": "form", "message": "Sure?", "requestedSchema": form(Order).schema},
            },
        )

    def test_declined(self) -> None:
        """It is an answer, not an exception, unless the handler says that it needs one."""
        for action, words in (("decline", "declined"), ("cancel", "dismissed")):
            deferred, _ = self.asking(bool, {"action": action})
            answer = self.successResultOf(deferred)
            self.assertEqual((answer.action, answer.data, answer.accepted), (action, None, False))
            error = self.assertRaises(InputDeclined, answer.required)
            self.assertEqual(error.action, action)
            self.assertEqual(str(error), f"the user {words} the question: Sure?")

    def test_answer_of_another_form(self) -> None:
        deferred, _ = self.asking(dt.date, {"action": "accept", "content": {"value": "2026-02-30"}})
        self.failureResultOf(deferred, McpError)
        deferred, _ = self.asking(bool, {"action": "accept"})
        self.failureResultOf(deferred, McpError)

    def test_keys_count_up(self) -> None:
        conversation = Conversation(
            {f"ask-{n}": {"action": "accept", "content": {"value": n}} for n in (1, 3)}
        )
        conversation.answers["mine"] = {"action": "accept"}
        ctx = Context(request("tools/call", conversation=conversation))

        async def work() -> list[Any]:
            first = await ctx.elicit("a", int)
            second = await ctx.elicit_url("b", "https://example.com/", "mine")
            third = await ctx.elicit("c", int)
            return [first.data, second.data, third.data]

        self.assertEqual(self.successResultOf(ensureDeferred(work())), [1, None, 3])
        self.assertEqual([list(asked) for asked in conversation.asked], [["ask-1"], ["mine"], ["ask-3"]])
        self.assertEqual(
            conversation.asked[1]["mine"]["params"],
            {"mode": "url", "message": "b", "url": "https://example.com/"},
        )

    def test_sample(self) -> None:
        result = {
            "role": "assistant",
            "content": [{"type": "text", "text": "a"}, {"type": "image"}, {"type": "text", "text": "b"}],
            "model": "m",
            "stopReason": "endTurn",
        }
        conversation = Conversation({"ask-1": result, "ask-2": {"content": {"type": "text", "text": "c"}}})
        ctx = Context(request("tools/call", conversation=conversation))

        async def work() -> tuple[Any, Any]:
            first = await ctx.sample("hi", max_tokens=5, system="be brief", stop=["."], tools=[{"name": "t"}])
            second = await ctx.sample([Message("x", "assistant"), {"role": "user"}, "y"], max_tokens=1)
            return first, second

        first, second = self.successResultOf(ensureDeferred(work()))
        self.assertEqual((first.text, first.model, first.stop_reason), ("ab", "m", "endTurn"))
        self.assertEqual((second.text, second.model, second.stop_reason), ("c", "", None))
        hello = {"role": "user", "content": {"type": "text", "text": "hi"}}
        self.assertEqual(
            conversation.asked[0]["ask-1"]["params"],
            {
                "messages": [hello],
                "maxTokens": 5,
                "systemPrompt": "be brief",
                "stopSequences": ["."],
                "tools": [{"name": "t"}],
            },
        )
        self.assertEqual(len(conversation.asked[1]["ask-2"]["params"]["messages"]), 3)

    def test_roots_and_several_at_once(self) -> None:
        roots = {"roots": [{"uri": "file:///a", "name": "A"}, {"uri": "file:///b"}]}
        conversation = Conversation({"ask-1": roots, "x": {}, "y": {}})
        ctx = Context(request("tools/call", conversation=conversation))
        found = self.successResultOf(ensureDeferred(ctx.roots()))
        self.assertEqual([(root.uri, root.name) for root in found], [("file:///a", "A"), ("file:///b", None)])
        both = {"x": {"method": "roots/list"}, "y": {"method": "roots/list"}}
        self.assertEqual(self.successResultOf(ensureDeferred(ctx.ask(both))), {"x": {}, "y": {}})
        self.assertEqual(conversation.asked[-1], both)

    def test_who_asks(self) -> None:
        made = request("tools/call", trace={"traceparent": "t"}, client="me", capabilities="all")
        ctx = Context(made)
        self.assertEqual((ctx.client, ctx.capabilities, ctx.request_id), ("me", "all", 1))
        self.assertEqual(
            (ctx.principal, ctx.peer.transport, ctx.trace), (ANONYMOUS, "test", {"traceparent": "t"})
        )
        self.assertEqual(Context(request("tools/call")).trace, {})

    def test_cancellation(self) -> None:
        made = request("tools/call")
        ctx = Context(made)
        heard: list[str] = []
        ctx.on_cancel(lambda: heard.append("a"))
        ctx.on_cancel(lambda: heard.append("b"))
        self.assertFalse(ctx.cancelled)
        made.cancel()
        made.cancel()
        self.assertTrue(ctx.cancelled)
        ctx.on_cancel(lambda: heard.append("late"))
        self.assertEqual(heard, ["a", "b", "late"])

    def test_in_a_thread(self) -> None:
        """All goes through the reactor's thread, and questions say that they cannot be asked there."""
        passed: list[Any] = []
        conversation = Conversation()
        made = request("tools/call", conversation=conversation, progress_token=1)
        ctx = ThreadContext(made, "reactor", lambda act, *rest: passed.append((act, rest)))
        ctx.report_progress(1)
        ctx.on_cancel(lambda: None)
        ctx.leave()
        self.assertEqual(conversation.said, [])
        self.assertEqual([rest[0] for _, rest in passed[:1]], [1])
        for act, rest in passed:
            act(*rest)
        self.assertEqual(conversation.said, [("progress", 1, None, None), ("leave",)])
        self.assertEqual(len(made.on_cancel or ()), 1)
        for ask in (ctx.elicit, ctx.elicit_url, ctx.sample, ctx.roots, ctx.ask):
            error = self.assertRaises(RuntimeError, ask, "x")
            self.assertIn("async def", str(error))

    def test_parks(self) -> None:
        """A question that waits keeps the coroutine where it is."""
        waiting: Deferred[Any] = Deferred()

        class Slow(Conversation):
            async def ask(self, questions: dict[str, Any]) -> dict[str, Any]:
                return {key: await waiting for key in questions}

        ctx = Context(request("tools/call", conversation=Slow()))
        deferred = ensureDeferred(ctx.elicit("Sure?", bool))
        self.assertNoResult(deferred)
        waiting.callback({"action": "accept", "content": {"value": True}})
        self.assertIs(self.successResultOf(deferred).data, True)
