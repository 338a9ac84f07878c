"""Every revision of a client through a gateway to every revision of an upstream, over stdio, TCP and HTTP: processes.

One gateway stands in front of fifteen upstreams; five clients, one of each revision, use everything of each of them.
"""

import functools
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from erlmcp.client import Answers, Client, Elicitation, LogMessage, Progress, ServerError, accept, http
from tests.gateway_processes import ERAS, WAYS, Far, gateway, lasting

ABLE = ("modern", "2025-11-25", "2025-06-18")
"""Revisions with elicitation."""
WITH_URLS = ("modern", "2025-11-25")


def name_of(way: str, era: str) -> str:
    return f"{way}-{era.replace('-', '')}"


@functools.cache
def front() -> int:
    """The gateway's port."""
    far = Far(lasting())
    upstreams = [{**far.upstream(way, era), "name": name_of(way, era)} for era in ERAS for way in WAYS]
    return gateway(lasting(), *upstreams)


class Matrix:
    """One client revision; a test for each way to the upstreams."""

    era = ""
    timeout = 300

    async def use(self, way: str) -> None:
        """Everything, with an upstream of each revision."""
        test: Any = self
        logged: list[LogMessage] = []

        def answer(question: Elicitation) -> dict[str, Any]:
            if question.url:
                return accept()
            return accept({"name": "Ada"} if "name" in question.message else {"sure": True})

        answers = Answers(
            elicit=answer,
            urls=True,
            sample=lambda params: {
                "role": "assistant",
                "model": "m",
                "content": {"type": "text", "text": "you said " + _said(params)},
            },
            roots=[{"uri": "file:///work", "name": "work"}],
        )
        client = Client(
            http(reactor, f"http://127.0.0.1:{front()}/mcp"),
            reactor,
            era=self.era,
            answers=answers,
            on_log=logged.append,
            timeout=60.0,
        )
        test.addCleanup(client.close)
        if (await client.connect()).era == "handshake":
            await client.set_level("warning")
        for upstream in ERAS:
            await self.use_one(client, name_of(way, upstream), upstream, logged)

    async def use_one(self, client: Client, name: str, upstream: str, logged: list[LogMessage]) -> None:
        test: Any = self
        where = f"{self.era} client, {name}"
        await self.seen(client, f"{name}.add")
        tools = {one.name: one for one in await client.list_tools()}
        test.assertIn(f"{name}.divide", tools, where)
        test.assertEqual((await client.call(f"{name}.add", {"a": 2, "b": 0.5})).text, "2.5", where)
        divided = await client.call(f"{name}.divide", {"a": 7, "b": 2})
        if self.era in ABLE and upstream in ABLE:
            test.assertEqual(divided.structured, {"quotient": 3, "rest": 1}, where)
        test.assertIn('"quotient":3', divided.text.replace(" ", ""), where)
        failed = await client.call(f"{name}.fail", {"reason": "on purpose"})
        test.assertEqual((failed.is_error, failed.text), (True, "on purpose"), where)
        await self.resources(client, name, where)
        prompt = await client.get(f"{name}.review", {"language": "python"})
        test.assertIn("python", prompt.messages[0].content.text, where)
        if "2024-11-05" not in (self.era, upstream):
            completed = await client.complete("language", "py", prompt=f"{name}.review")
            test.assertEqual(completed.completion.values, ["python", "pyret"], where)
        await self.asked(client, name, upstream, where)
        steps: list[Progress] = []
        logged.clear()
        counted = await client.call(
            f"{name}.count", {"to": 3}, on_progress=steps.append, on_log=logged.append, level="warning"
        )
        test.assertEqual((counted.text, [one.done for one in steps]), ("done", [1, 2, 3]), where)
        test.assertIn(("warning", "counted"), [(one.level, one.data) for one in logged], where)
        test.assertNotIn("not wanted", [one.data for one in logged], where)
        await self.given_up(client, name, where)

    async def resources(self, client: Client, name: str, where: str) -> None:
        test: Any = self
        uris = [one.uri for one in await client.list_resources()]
        test.assertIn(f"{name}+notes://today", uris, where)
        templates = [one.uri_template for one in await client.list_templates()]
        test.assertIn(f"{name}+notes://{{number}}/page", templates, where)
        for own, text in (("notes://today", "nothing"), ("notes://7/page", "page 7")):
            [contents] = (await client.read(f"{name}+{own}")).contents
            test.assertEqual((contents.uri, contents.text), (f"{name}+{own}", text), where)
        error: Any = await test.assertFailure(client.read(f"{name}+notes://no/where/at/all"), ServerError)
        test.assertEqual(error.code, -32602 if self.era == "modern" else -32002, where)

    async def asked(self, client: Client, name: str, upstream: str, where: str) -> None:
        """Elicitation where both have it, visits likewise; sampling and roots in any case."""
        test: Any = self
        if self.era in ABLE and upstream in ABLE:
            greeted = await client.call(f"{name}.greet")
            test.assertEqual(greeted.text, "Hello, Ada! sure=True", where)
        else:
            test.assertTrue(await _refused(client.call(f"{name}.greet")), where)
        if self.era in WITH_URLS and upstream in WITH_URLS:
            test.assertEqual((await client.call(f"{name}.visit")).text, "the user says accept", where)
        consulted = await client.call(f"{name}.consult")
        test.assertEqual(consulted.text, "you said ping, with ['file:///work']", where)

    async def given_up(self, client: Client, name: str, where: str) -> None:
        """The upstream's work is seen to end."""
        test: Any = self
        before = int((await client.call(f"{name}.cancelled")).text)
        begun: Deferred[None] = Deferred()
        waiting = client.call(f"{name}.wait", on_progress=lambda _: begun.called or begun.callback(None))
        await begun
        waiting.cancel()
        waiting.addErrback(lambda _: None)
        for _ in range(200):
            now = int((await client.call(f"{name}.cancelled")).text)
            if now > before:
                return
            await deferLater(reactor, 0.02)  # type: ignore[arg-type]
        test.fail(where)

    async def seen(self, client: Client, tool: str) -> None:
        """Wait until it is listed: a process that has been started has to say first what it offers."""
        for _ in range(300):
            if any(one.name == tool for one in await client.list_tools()):
                return
            await deferLater(reactor, 0.1)  # type: ignore[arg-type]
        raise AssertionError(f"{tool} does not appear")

    async def test_stdio(self) -> None:
        await self.use("stdio")

    async def test_tcp(self) -> None:
        await self.use("tcp")

    async def test_http(self) -> None:
        await self.use("http")


async def _refused(calling: "Deferred[Any]") -> bool:
    try:
        result = await calling
    except ServerError:
        return True
    return bool(result.is_error)


def _said(params: Any) -> str:
    content = params["messages"][0]["content"]
    return str((content[0] if isinstance(content, list) else content)["text"])


class ModernTests(Matrix, TestCase):
    era = "modern"


class November2025Tests(Matrix, TestCase):
    era = "2025-11-25"


class June2025Tests(Matrix, TestCase):
    era = "2025-06-18"


class March2025Tests(Matrix, TestCase):
    era = "2025-03-26"


class November2024Tests(Matrix, TestCase):
    era = "2024-11-05"
