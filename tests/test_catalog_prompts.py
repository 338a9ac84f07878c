"""Prompts, resources and completions."""

import datetime as dt
import enum
from typing import Annotated, Any, Literal

import msgspec
from pydantic import AfterValidator
from twisted.internet.defer import CancelledError
from twisted.trial.unittest import SynchronousTestCase

from erlmcp import Context, EmbeddedResource, Field, Image, Message, Provider, ToolError
from erlmcp.catalog import Completion, Contents, InexpressibleHint, ResourceNotFound
from erlmcp.interfaces import Complete, NeedsInput
from erlmcp.protocol import McpError
from tests.catalog_calls import Conversation, finish, request, run, wire


class Colour(enum.Enum):
    RED = "red"


def get(provider: Provider, name: str, arguments: Any = None, **more: Any) -> Any:
    params = {"name": name} | ({} if arguments is None else {"arguments": arguments})
    return run(provider, request("prompts/get", name, params, **more))


def read(provider: Provider, uri: str, **more: Any) -> Any:
    return run(provider, request("resources/read", uri, {"uri": uri}, **more))


def complete(provider: Provider, ref: dict[str, str], name: str, value: str, **settled: str) -> Any:
    params: dict[str, Any] = {"ref": ref, "argument": {"name": name, "value": value}}
    if settled:
        params["context"] = {"arguments": settled}
    return run(provider, request("completion/complete", "", params))["completion"]


def _even(value: int) -> int:
    if value % 2:
        raise ValueError("must be even")
    return value


class PromptTests(SynchronousTestCase):
    """``prompts/get`` (revision 2026-07-28, server/prompts)."""

    def test_definition(self) -> None:
        provider = Provider("p")

        @provider.prompt(name="r", title="R", description="Do.", icons=["i:"], meta={"k": 1}, timeout=3.0)
        async def review(code: Annotated[str, Field(title="Code")], language: str = "c") -> str:
            """Unused.

            Args:
                language: which one
            """
            return code + language

        definition = provider.definitions().prompts["r"]
        self.assertEqual(
            wire(definition.wire),
            {
                "name": "r",
                "title": "R",
                "description": "Do.",
                "arguments": [
                    {"name": "code", "title": "Code", "required": True},
                    {"name": "language", "description": "which one", "required": False},
                ],
                "icons": [{"src": "i:"}],
                "_meta": {"k": 1},
            },
        )
        self.assertEqual((definition.arguments, definition.timeout), ({"code": True, "language": False}, 3.0))

    def test_messages(self) -> None:
        def said(block: Any, role: str = "user") -> dict[str, Any]:
            return {"role": role, "content": block}

        hello = {"type": "text", "text": "hello"}
        for value, messages in (
            ("hello", [said(hello)]),
            (["hello", Message("hello", "assistant")], [said(hello), said(hello, "assistant")]),
            (Image(b""), [said({"type": "image", "data": "", "mimeType": "image/png"})]),
            ({"role": "assistant", "content": "hello"}, [said(hello, "assistant")]),
            ({"role": "user", "content": hello}, [said(hello)]),
            (
                Message(EmbeddedResource("a:b", "t")),
                [said({"type": "resource", "resource": {"uri": "a:b", "text": "t"}})],
            ),
        ):
            provider = Provider("p")

            async def prompt(found: Any = value) -> Any:
                raise AssertionError(found)

            async def bare() -> Any:
                return value  # noqa: B023 - called in this round

            provider.add_prompt(bare)
            self.assertEqual(get(provider, "bare"), {"messages": messages})

    def test_arguments_are_texts(self) -> None:
        """Each becomes a value of its type."""
        provider = Provider("p")
        got: list[Any] = []

        @provider.prompt
        async def typed(
            text: str,
            number: int = 0,
            share: float = 0.0,
            flag: bool = False,
            day: dt.date | None = None,
            colour: Colour = Colour.RED,
            kind: Literal["a", 2] = "a",
            either: str | int = "",
            tags: list[str] | None = None,
            anything: Any = None,
        ) -> str:
            """Take all kinds."""
            got.extend([text, number, share, flag, day, colour, kind, either, tags, anything])
            return "ok"

        fields = get(
            provider,
            "typed",
            {
                "text": "1",
                "number": "42",
                "share": "1",
                "flag": "true",
                "day": "2026-07-28",
                "colour": "red",
                "kind": "2",
                "either": "7",
                "tags": "x",
                "anything": "y",
            },
        )
        self.assertEqual(got, ["1", 42, 1.0, True, dt.date(2026, 7, 28), Colour.RED, 2, "7", ["x"], "y"])
        self.assertEqual(fields["description"], "Take all kinds.")
        get(provider, "typed", {"text": "x", "day": "null"})
        self.assertIsNone(got[14])

    def test_wrong_texts(self) -> None:
        provider = Provider("p")

        @provider.prompt
        async def typed(
            number: Annotated[int, Field(le=9)] = 0,
            span: dt.timedelta = dt.timedelta(),
            even: Annotated[int, AfterValidator(_even)] = 0,
        ) -> str:
            return f"{number}{span}{even}"

        for arguments, words in (
            ({"number": "many"}, "argument number"),
            ({"number": "10"}, "maximum"),
            ({"number": "1.5"}, "integer"),
            ({"span": "P1Y"}, "argument span"),
            ({"even": "3"}, "argument even"),
        ):
            error = self.assertRaises(McpError, get, provider, "typed", arguments)
            self.assertEqual(error.code, -32602)
            self.assertIn(words, error.message)

    def test_types_that_are_no_text(self) -> None:
        for hint in (dict[str, int], list[int] | dict[str, Any], Message):
            provider = Provider("p")

            async def prompt(a: Any) -> str:
                return str(a)

            prompt.__annotations__["a"] = hint
            error = self.assertRaises(InexpressibleHint, provider.add_prompt, prompt)
            self.assertIn("prompt 'prompt', parameter 'a'", str(error))

    def test_errors(self) -> None:
        """-32603; the text is the author's only where it is meant for clients."""
        provider = Provider("p")

        @provider.prompt
        async def bad(kind: str) -> Any:
            if kind == "public":
                raise ToolError("no such code")
            if kind == "protocol":
                raise McpError(-31005, "later")
            if kind == "cancelled":
                raise CancelledError
            if kind == "value":
                return 3
            raise KeyError("secret")

        for kind, code, words in (
            ("public", -32603, "no such code"),
            ("protocol", -31005, "later"),
            ("hidden", -32603, "Internal error "),
            ("value", -32603, "Internal error "),
        ):
            error = self.assertRaises(McpError, get, provider, "bad", {"kind": kind})
            self.assertEqual(error.code, code)
            self.assertIn(words, error.message)
            self.assertNotIn("secret", error.message)
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)
        self.assertRaises(CancelledError, get, provider, "bad", {"kind": "cancelled"})

    def test_context_and_outcomes(self) -> None:
        provider = Provider("p")

        @provider.prompt
        async def asks(ctx: Context) -> str:
            return (await ctx.elicit("Who?", str)).required()

        @provider.prompt
        async def whole() -> Any:
            return Complete({"messages": [], "x": 1})

        conversation = Conversation({"ask-1": {"action": "accept", "content": {"value": "me"}}})
        fields = get(provider, "asks", conversation=conversation)
        self.assertEqual(fields["messages"][0]["content"]["text"], "me")
        self.assertEqual(get(provider, "whole"), {"messages": [], "x": 1})


class ResourceTests(SynchronousTestCase):
    """``resources/read`` (revision 2026-07-28, server/resources)."""

    def test_definitions(self) -> None:
        provider = Provider("p")

        @provider.resource(
            "config://a",
            name="a",
            title="A",
            description="It.",
            mime_type="text/plain",
            size=3,
            icons=["i:"],
            annotations={"priority": 1},
            timeout=2.0,
            meta={"k": 1},
        )
        async def first() -> str:
            return "abc"

        @provider.resource("config://{key}")
        async def second(key: str) -> str:
            """One key."""
            return key

        definitions = provider.definitions()
        self.assertEqual(
            wire(definitions.resources["config://a"].wire),
            {
                "uri": "config://a",
                "name": "a",
                "title": "A",
                "description": "It.",
                "mimeType": "text/plain",
                "size": 3,
                "icons": [{"src": "i:"}],
                "annotations": {"priority": 1},
                "_meta": {"k": 1},
            },
        )
        self.assertEqual(
            wire(definitions.templates["config://{key}"].wire),
            {"uriTemplate": "config://{key}", "name": "second", "description": "One key."},
        )
        self.assertEqual(definitions.templates["config://{key}"].match("config://x"), {"key": "x"})
        self.assertEqual(definitions.resources["config://a"].timeout, 2.0)
        self.assertTrue(definitions.subscribe)

    def test_contents(self) -> None:
        for value, mime_type, contents in (
            ("t", None, [{"uri": "a:b", "mimeType": "text/plain", "text": "t"}]),
            ("t", "text/html", [{"uri": "a:b", "mimeType": "text/html", "text": "t"}]),
            (b"\x00", None, [{"uri": "a:b", "mimeType": "application/octet-stream", "blob": "AA=="}]),
            ({"k": 1}, None, [{"uri": "a:b", "mimeType": "application/json", "text": '{"k":1}'}]),
            ([], None, [{"uri": "a:b", "mimeType": "application/json", "text": "[]"}]),
            (Contents("t"), "text/x", [{"uri": "a:b", "mimeType": "text/x", "text": "t"}]),
            (
                [Contents(b"", uri="a:c", mime_type="x/y", meta={"k": 1}), Contents("t")],
                None,
                [
                    {"uri": "a:c", "mimeType": "x/y", "blob": "", "_meta": {"k": 1}},
                    {"uri": "a:b", "text": "t"},
                ],
            ),
        ):
            provider = Provider("p")

            async def resource() -> Any:
                return value  # noqa: B023 - called in this round

            options: Any = {} if mime_type is None else {"mime_type": mime_type}
            provider.add_resource("a:b", resource, **options)
            self.assertEqual(
                read(provider, "a:b"), {"contents": contents, "ttlMs": 0, "cacheScope": "private"}
            )

    def test_caching(self) -> None:
        provider = Provider("p")

        @provider.resource("a:b", ttl=1.5, cache_scope="public")
        async def resource() -> Any:
            return "x"

        @provider.resource("a:c")
        async def whole(ctx: Context) -> Any:
            return Complete({"contents": [], "cacheScope": ctx.peer.transport})

        fields = read(provider, "a:b")
        self.assertEqual((fields["ttlMs"], fields["cacheScope"]), (1500, "public"))
        self.assertEqual(read(provider, "a:c"), {"contents": [], "cacheScope": "test"})

    def test_templates(self) -> None:
        provider = Provider("p")

        @provider.resource("users://{id}/posts{?limit}")
        async def posts(id: int, limit: int = 10, extra: str = "e") -> list[int | str]:  # noqa: A002 - as authors do
            return [id, limit, extra]

        @provider.resource("files:{/path*}")
        async def files(path: list[str]) -> list[str]:
            return path

        for uri, expected in (
            ("users://7/posts", '[7,10,"e"]'),
            ("users://7/posts?limit=3", '[7,3,"e"]'),
            ("files:/a/b", '["a","b"]'),
        ):
            self.assertEqual(read(provider, uri)["contents"][0]["text"], expected)
        for uri in ("users://seven/posts", "users://7/8/posts", "users://", "nothing://"):
            error = self.assertRaises(McpError, read, provider, uri)
            self.assertEqual((error.code, error.data), (-32602, {"uri": uri}))
            self.assertTrue(error.message.startswith("Resource not found"))

    def test_another_uri_than_its_own(self) -> None:
        """A target that does not match the name, as after a change, is not found."""
        provider = Provider("p")

        @provider.resource("x:{a}")
        async def resource(a: str) -> str:
            return a

        made = request("resources/read", "y:1", {"uri": "y:1"})
        made.target = provider.definitions().templates["x:{a}"]
        self.assertEqual(self.failureResultOf(finish(provider.dispatch(made)), McpError).value.code, -32602)

    def test_required_query(self) -> None:
        provider = Provider("p")

        @provider.resource("find://x{?q}")
        async def find(q: str) -> str:
            return q

        self.assertEqual(read(provider, "find://x?q=a%20b")["contents"][0]["text"], "a b")
        error = self.assertRaises(McpError, read, provider, "find://x")
        self.assertIn("needs q", error.message)

    def test_errors(self) -> None:
        provider = Provider("p")

        @provider.resource("a:{kind}")
        async def bad(kind: str) -> Any:
            if kind == "none":
                return None
            raise {"gone": ResourceNotFound(), "public": ToolError("closed"), "stop": CancelledError()}[kind]

        for kind, code, words in (
            ("gone", -32602, "Resource not found: a:gone"),
            ("public", -32603, "closed"),
            ("none", -32603, "Internal error "),
            ("other", -32603, "Internal error "),
        ):
            error = self.assertRaises(McpError, read, provider, f"a:{kind}")
            self.assertEqual(error.code, code)
            self.assertIn(words, error.message)
        self.assertRaises(CancelledError, read, provider, "a:stop")
        self.flushLoggedErrors(TypeError, KeyError)

    def test_refused(self) -> None:
        async def none() -> str:
            return ""

        async def one(a: str) -> str:
            return a

        for uri, function, options, words in (
            ("no-scheme", none, {}, "begins with a scheme"),
            ("a:{x", none, {}, "unbalanced"),
            ("a:{b}", none, {}, "has the variable 'b'"),
            ("a:b", one, {}, "no variable of that name"),
            ("a:{a:3}", one, {}, "cannot be matched"),
            ("a:{a}", one, {"size": 3}, "a template has no size"),
            ("a:b", none, {"ttl": -1}, "ttl=-1"),
            ("a:b", none, {"cache_scope": "mine"}, "'public' or 'private'"),
            ("a:b", none, {"annotations": {"readOnlyHint": True}}, "unknown annotation"),
        ):
            error = self.assertRaises(
                (TypeError, ValueError), Provider("p").add_resource, uri, function, **options
            )
            self.assertIn(words, str(error))
        self.assertIn("needs its URI", str(self.assertRaises(TypeError, Provider("p").resource, none)))


class CompletionTests(SynchronousTestCase):
    """``completion/complete`` (revision 2026-07-28, server/utilities/completion)."""

    def provider(self) -> Provider:
        provider = Provider("p")

        @provider.prompt
        async def review(language: str, framework: str = "") -> str:
            return language + framework

        @provider.resource("users://{id}")
        async def user(id: str) -> str:  # noqa: A002 - as authors do
            return id

        return provider

    def test_values(self) -> None:
        provider = self.provider()

        @provider.completion("review", "language")
        async def languages(value: str) -> list[str]:
            return [name for name in ("python", "perl") if name.startswith(value)]

        @provider.completion("review", "framework")
        async def frameworks(value: str, arguments: dict[str, str], ctx: Context) -> list[str]:
            return [value, arguments.get("language", "none"), ctx.peer.transport]

        @provider.completion("users://{id}", "id")
        async def ids(value: str) -> Completion:
            return Completion([value], total=7)

        prompt = {"type": "ref/prompt", "name": "review"}
        template = {"type": "ref/resource", "uri": "users://{id}"}
        self.assertEqual(
            complete(provider, prompt, "language", "py"), {"values": ["python"], "total": 1, "hasMore": False}
        )
        self.assertEqual(complete(provider, prompt, "framework", "f")["values"], ["f", "none", "test"])
        settled = complete(provider, prompt, "framework", "f", language="c")
        self.assertEqual(settled["values"], ["f", "c", "test"])
        self.assertEqual(
            complete(provider, template, "id", "3"), {"values": ["3"], "total": 7, "hasMore": True}
        )
        self.assertTrue(provider.definitions().completions)

    def test_bounds(self) -> None:
        provider = self.provider()
        found: list[Any] = []

        @provider.completion("review", "language")
        async def languages(value: str) -> Any:
            return found[0]

        prompt = {"type": "ref/prompt", "name": "review"}
        for value, expected in (
            (
                [str(n) for n in range(150)],
                {"values": [str(n) for n in range(100)], "total": 150, "hasMore": True},
            ),
            (None, {"values": [], "total": 0, "hasMore": False}),
            (Completion(["a"]), {"values": ["a"], "hasMore": False}),
            (Completion(["a"], has_more=True), {"values": ["a"], "hasMore": True}),
        ):
            found[:] = [value]
            self.assertEqual(complete(provider, prompt, "language", ""), expected)
        found[:] = [[1]]
        self.assertEqual(self.assertRaises(McpError, complete, provider, prompt, "language", "").code, -32603)
        self.flushLoggedErrors(TypeError)

    def test_nothing_to_suggest(self) -> None:
        """An argument without suggestions has none; that is no error."""
        prompt = {"type": "ref/prompt", "name": "review"}
        self.assertEqual(
            complete(self.provider(), prompt, "language", "x"), {"values": [], "total": 0, "hasMore": False}
        )

    def test_errors_pass(self) -> None:
        provider = self.provider()

        @provider.completion("review", "language")
        async def languages(value: str) -> list[str]:
            raise CancelledError if value else McpError(-31005, "later")

        prompt = {"type": "ref/prompt", "name": "review"}
        self.assertRaises(CancelledError, complete, provider, prompt, "language", "x")
        self.assertRaises(McpError, complete, provider, prompt, "language", "")

    def test_unknown(self) -> None:
        """-32602 for what does not exist."""
        for ref, words in (
            ({"type": "ref/prompt", "name": "other"}, "Unknown prompt: other"),
            ({"type": "ref/resource", "uri": "other://{x}"}, "Resource not found"),
            ({"type": "ref/prompt", "uri": "x"}, "needs name"),
            ({"type": "ref/resource", "name": "x"}, "needs uri"),
        ):
            error = self.assertRaises(McpError, complete, self.provider(), ref, "a", "")
            self.assertEqual(error.code, -32602)
            self.assertIn(words, error.message)

    def test_refused(self) -> None:
        async def good(value: str) -> list[str]:
            return [value]

        async def none() -> list[str]:
            return []

        async def three(a: str, b: str, c: str) -> list[str]:
            return [a, b, c]

        for ref, argument, function, kind, words in (
            ("other", "x", good, ValueError, "define it first"),
            ("review", "x", good, ValueError, "it has language, framework"),
            ("users://{id}", "x", good, ValueError, "it has id"),
            ("review", "language", none, TypeError, "(value) or (value, arguments)"),
            ("review", "language", three, TypeError, "(value) or (value, arguments)"),
        ):
            error = self.assertRaises(kind, self.provider().add_completion, ref, argument, function)
            self.assertIn(words, str(error))
        provider = self.provider()
        provider.add_completion("review", "language", good)
        self.assertIn(
            "already", str(self.assertRaises(ValueError, provider.add_completion, "review", "language", good))
        )

    def test_needs_input_passes(self) -> None:
        provider = self.provider()
        wanted = NeedsInput({}, "s")

        @provider.resource("a:b")
        async def resource() -> Any:
            return wanted

        made = request("resources/read", "a:b", {"uri": "a:b"})
        made.target = provider.definitions().resources["a:b"]
        self.assertIs(self.successResultOf(finish(provider.dispatch(made))), wanted)
        self.assertIs(made.params.arguments, msgspec.UNSET)
