"""The four cells: clients of either era, upstreams of either era, over streams and over what is like HTTP."""

from collections.abc import Iterator
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from erlmcp import Context, Provider
from erlmcp.client import Answers, LogMessage, Progress, ServerError, accept
from tests.gateway_stage import Stage

CLIENTS = ("modern", "2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")
UPSTREAMS = ("modern", "2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")
CELLS = [
    (client, upstream, linked) for client in CLIENTS for upstream in UPSTREAMS for linked in (False, True)
]


def far() -> Provider:
    provider = Provider("far")

    @provider.tool(annotations={"readOnlyHint": True})
    async def echo(text: str) -> str:
        """Say it again."""
        return text

    @provider.tool
    async def add(a: int, b: int) -> int:
        """Add."""
        return a + b

    @provider.tool
    async def confirm(ctx: Context) -> str:
        """Ask twice."""
        schema = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
        first = await ctx.elicit("Who?", schema)
        second = await ctx.elicit("Really?", schema)
        return f"{first.data['name']} {second.data['name']}"

    @provider.tool
    async def sample(ctx: Context) -> str:
        """Ask the model."""
        result = await ctx.sample("What?", max_tokens=5)
        return result.text

    @provider.tool
    async def roots(ctx: Context) -> str:
        """Ask for roots."""
        return str(await ctx.roots())

    @provider.tool
    async def work(ctx: Context) -> str:
        """Tell how it goes."""
        await ctx.report_progress(1, 2, "half")
        await ctx.report_progress(2, 2)
        await ctx.log("warning", {"left": 0}, logger="work")
        return "done"

    @provider.tool
    async def fail() -> str:
        """Fail."""
        raise ValueError("no such thing")

    @provider.resource("note://{name}", mime_type="text/plain")
    async def note(name: str) -> str:
        """A note."""
        return f"about {name}"

    @provider.resource("config://all")
    async def config() -> str:
        """The configuration."""
        return "{}"

    @provider.prompt
    async def review(code: str) -> str:
        """Review it."""
        return f"review {code}"

    @provider.completion("review", "code")
    async def codes(value: str) -> list[str]:
        return [value + "1", value + "2"]

    return provider


class CellTests(SynchronousTestCase):
    """What works in every cell works the same."""

    def each(
        self, cells: list[tuple[str, str, bool]] = CELLS, **options: Any
    ) -> Iterator[tuple[str, Stage, Any]]:
        for client, upstream, linked in cells:
            name = f"{client} client, {upstream} upstream, {'linked' if linked else 'stream'}"
            stage = Stage(far(), era=upstream, linked=linked)
            stage.begin()
            yield name, stage, stage.client(client, linked=linked, **options)
            stage.end(self.successResultOf)

    def test_calls(self) -> None:
        for name, _, client in self.each():
            self.assertEqual(self.successResultOf(client.call("far.echo", {"text": "hi"})).text, "hi", name)
            self.assertEqual(self.successResultOf(client.call("far.add", {"a": 1, "b": 2})).text, "3", name)
            failed = self.successResultOf(client.call("far.fail"))
            self.assertTrue(failed.is_error, name)
            self.flushLoggedErrors(ValueError)

    def test_lists(self) -> None:
        for name, _, client in self.each():
            tools = [tool.name for tool in self.successResultOf(client.list_tools())]
            self.assertIn("far.echo", tools, name)
            self.assertEqual(len(tools), 7, name)
            resources = self.successResultOf(client.list_resources())
            self.assertEqual([one.uri for one in resources], ["far+config://all"], name)
            templates = self.successResultOf(client.list_templates())
            self.assertEqual([one.uri_template for one in templates], ["far+note://{name}"], name)
            self.assertEqual(
                [one.name for one in self.successResultOf(client.list_prompts())], ["far.review"]
            )

    def test_reads_gets(self) -> None:
        for name, _, client in self.each():
            [contents] = self.successResultOf(client.read("far+note://x")).contents
            self.assertEqual((contents.uri, contents.text), ("far+note://x", "about x"), name)
            [message] = self.successResultOf(client.get("far.review", {"code": "abc"})).messages
            self.assertEqual(message.content.text, "review abc", name)

    def test_completes(self) -> None:
        cells = [one for one in CELLS if "2024-11-05" not in one]
        for name, _, client in self.each(cells):
            done = self.successResultOf(client.complete("code", "a", prompt="far.review"))
            self.assertEqual(done.completion.values, ["a1", "a2"], name)

    def test_not_there(self) -> None:
        for name, _, client in self.each():
            for asking in (client.call("echo"), client.call("far.none"), client.get("far.none")):
                self.assertEqual(self.failureResultOf(asking, ServerError).value.code, -32602, name)
            error = self.failureResultOf(client.read("far+none://x"), ServerError).value
            self.assertIn(error.code, (-32602, -32002), name)

    def test_elicitation(self) -> None:
        able = [
            one
            for one in CELLS
            if one[0] not in ("2025-03-26", "2024-11-05") and one[1] not in ("2025-03-26", "2024-11-05")
        ]
        asked: list[str] = []

        def elicit(question: Any) -> Any:
            asked.append(question.message)
            return accept({"name": question.message[0]})

        for name, _, client in self.each(able, answers=Answers(elicit=elicit)):
            self.assertEqual(self.successResultOf(client.call("far.confirm")).text, "W R", name)
        self.assertEqual(asked, ["Who?", "Really?"] * len(able))

    def test_sampling_and_roots(self) -> None:
        message = {"role": "assistant", "model": "m", "content": {"type": "text", "text": "hello"}}
        answers = Answers(sample=lambda _: message, roots=[{"uri": "file:///home"}])
        for name, _, client in self.each(answers=answers):
            self.assertIn("hello", self.successResultOf(client.call("far.sample")).text, name)
            self.assertIn("file:///home", self.successResultOf(client.call("far.roots")).text, name)

    def test_progress_and_logs(self) -> None:
        for name, _, client in self.each():
            heard: list[Progress] = []
            logged: list[LogMessage] = []
            client._on_log = logged.append
            if self.successResultOf(client.connect()).era == "handshake":
                self.successResultOf(client.set_level("info"))
            result = self.successResultOf(
                client.call("far.work", on_progress=heard.append, on_log=logged.append, level="info")
            )
            self.assertEqual(result.text, "done", name)
            self.assertEqual([one.done for one in heard], [1, 2], name)
            self.assertIn(LogMessage("warning", {"left": 0}, "work"), logged, name)

    def test_nobody_to_ask(self) -> None:
        for name, _, client in self.each():
            outcome = client.call("far.confirm")
            results: list[Any] = []
            outcome.addBoth(results.append)
            [result] = results
            refused = hasattr(result, "value") or result.is_error
            self.assertTrue(refused, name)

    def test_cancelled(self) -> None:
        for name, stage, client in self.each():
            assert stage.far is not None
            [backend] = stage.far.catalog.backends
            waiting: list[Any] = []
            backend.tool(_hangs(waiting), name="hang")
            stage.clock.advance(1)
            calling = client.call("far.hang")
            self.assertNoResult(calling)
            calling.cancel()
            self.failureResultOf(calling)
            stage.clock.advance(1)
            self.assertEqual([one.called for one in waiting], [True], name)

    def test_list_changes(self) -> None:
        for name, stage, client in self.each():
            assert stage.far is not None
            heard: list[Any] = []
            subscription = client.listen(heard.append, tools=True)
            stage.clock.advance(1)
            self.successResultOf(subscription.acknowledged)
            [backend] = stage.far.catalog.backends

            @backend.tool(name="another")
            async def another() -> str:
                return "x"

            for _ in range(10):
                stage.clock.advance(1)
            self.assertTrue(heard, name)
            names = [tool.name for tool in self.successResultOf(client.list_tools())]
            self.assertIn("far.another", names, name)


def _hangs(waiting: list[Any]) -> Any:
    from twisted.internet.defer import Deferred

    async def hang() -> str:
        deferred: Deferred[str] = Deferred()
        waiting.append(deferred)
        return await deferred

    return hang
