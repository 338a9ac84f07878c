"""Any value that a tool's schema admits reaches its handler unchanged, over every transport; no other value does.

The judge of what a schema admits is the `jsonschema` library, which is not what the server validates with.
"""

import json
import subprocess
import tempfile
from functools import cache
from typing import Any

import jsonschema
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.daemon import ERLMCP, PATIENCE, environment
from tests.interaction.clients import TRANSPORTS, Client, InMemory, World, envelope
from tests.interaction.values import KINDS, Kind, Receivers, described, json_values, strings, wire

PLACES = st.integers(0, 10**6)
PAIRS = st.sampled_from(KINDS).flatmap(lambda kind: st.tuples(st.just(kind), kind.values))


class Server:
    """The receivers, served to a client over one transport."""

    def __init__(self, transport: type[Client]) -> None:
        self.receivers = Receivers()
        self.client = transport(World(self.receivers.provider))
        self._number = 0

    def send(
        self, tool: str, arguments: Any, *, ascii_only: bool = False
    ) -> tuple[list[Any], dict[str, Any]]:
        """Call a tool.

        Args:
            ascii_only: whether the JSON is written with escapes.

        Returns:
            What handlers got, and the response.
        """
        self.receivers.got.clear()
        self.client.inbox.clear()
        self._number += 1
        params = {"name": tool, "arguments": arguments, "_meta": envelope()}
        message = {"jsonrpc": "2.0", "id": self._number, "method": "tools/call", "params": params}
        data = json.dumps(message, ensure_ascii=ascii_only).encode()
        sent = self.client.raw(
            data, id=self._number, method="tools/call", fields=self.client.fields(message, None)
        )
        return self.receivers.got, sent.response


@cache
def servers() -> tuple[Server, ...]:
    """One for each transport; they live as long as the tests, so that an example costs no more than its calls."""
    return tuple(Server(transport) for transport in TRANSPORTS)


@cache
def judges() -> dict[str, Any]:
    """Tool name -> a validator of its inputSchema, as it is advertised."""
    client = InMemory(World(Receivers().provider))
    tools = client.request("tools/list").result["tools"]
    for tool in tools:
        jsonschema.Draft202012Validator.check_schema(tool["inputSchema"])
    return {tool["name"]: jsonschema.Draft202012Validator(tool["inputSchema"]) for tool in tools}


def mutated(draw: Any, value: Any) -> Any:
    """The value with something changed in one place, perhaps deep inside."""
    if isinstance(value, dict) and value and draw(st.booleans()):
        key = draw(st.sampled_from(sorted(value)))
        return {**value, key: mutated(draw, value[key])}
    if isinstance(value, list) and value and draw(st.booleans()):
        place = draw(PLACES) % len(value)
        return [*value[:place], mutated(draw, value[place]), *value[place + 1 :]]
    if isinstance(value, dict) and draw(st.booleans()):
        if value and draw(st.booleans()):
            gone = draw(st.sampled_from(sorted(value)))
            return {key: one for key, one in value.items() if key != gone}
        return {**value, draw(strings): draw(json_values)}
    if isinstance(value, list) and draw(st.booleans()):
        return value[:-1] if draw(st.booleans()) else [*value, *(value[:1] or [draw(json_values)])]
    if isinstance(value, str) and draw(st.booleans()):
        return value + draw(st.sampled_from(["x", "\n", "\x00", " "]))
    return draw(json_values)


class Values(SynchronousTestCase):
    @given(st.data(), st.sampled_from(KINDS), st.booleans())
    @settings(deadline=None, max_examples=350)
    def test_what_is_admitted_arrives_unchanged(self, data: st.DataObject, kind: Kind, escaped: bool) -> None:
        value = data.draw(kind.values)
        arguments = {"value": wire(value)}
        judges()[kind.name].validate(arguments)
        for server in servers():
            got, response = server.send(kind.name, arguments, ascii_only=escaped)
            self.assertEqual(got, [value], (server.client.transport, response))
            self.assertIs(type(got[0]), type(value))
            self.assertEqual(described(got[0]), described(value))
            self.assertEqual(response["result"]["content"][0]["text"], described(value))

    @given(st.data(), st.sampled_from(KINDS))
    @settings(deadline=None, max_examples=350)
    def test_what_is_not_admitted_never_arrives(self, data: st.DataObject, kind: Kind) -> None:
        value = (
            data.draw(json_values)
            if data.draw(st.booleans())
            else mutated(data.draw, wire(data.draw(kind.values)))
        )
        arguments = {"value": value}
        admitted = judges()[kind.name].is_valid(arguments)
        for server in servers():
            got, response = server.send(kind.name, arguments)
            failed = response["result"].get("isError", False)
            self.assertEqual(len(got), 0 if failed else 1)
            if not admitted:
                self.assertEqual(got, [], (kind.name, value))
            elif kind.exact:
                self.assertEqual(len(got), 1, (kind.name, value, response))

    @given(st.sampled_from(KINDS), st.dictionaries(strings, json_values, max_size=2) | json_values)
    @settings(deadline=None, max_examples=100)
    def test_other_arguments_never_arrive(self, kind: Kind, arguments: Any) -> None:
        """Arguments that lack the parameter, or have others, or are no object at all."""
        if isinstance(arguments, dict) and set(arguments) == {"value"}:
            return
        for server in servers():
            got, response = server.send(kind.name, arguments)
            self.assertEqual(got, [])
            if isinstance(arguments, dict):
                self.assertTrue(response["result"]["isError"])
            else:
                self.assertEqual(response["error"]["code"], -32602)

    def test_numbers_that_nothing_holds(self) -> None:
        """They are JSON by their grammar, so they get as far as the arguments; there they are refused by name."""
        for server in servers():
            for number in ("1e400", "-1e999", "9" * 5000):
                for arguments in (f'{{"value":{number}}}', f'{{"value":[{{"a":{number}}}]}}', number):
                    server.receivers.got.clear()
                    params = {"name": "any", "arguments": "@", "_meta": envelope()}
                    message = {"jsonrpc": "2.0", "id": 0, "method": "tools/call", "params": params}
                    data = json.dumps(message).replace('"@"', arguments).encode()
                    fields = server.client.fields(message, None)
                    error = server.client.raw(data, id=0, method="tools/call", fields=fields).responses[-1][
                        "error"
                    ]
                    self.assertEqual(error["code"], -32602)
                    self.assertIn("out of range", error["message"])
                    self.assertEqual(server.receivers.got, [])

    def test_the_judge_can_say_no(self) -> None:
        for name, value in (
            ("int", 1.5),
            ("short", ""),
            ("literal", "b"),
            ("nested", {}),
            ("attrs", {"plate": 1}),
        ):
            self.assertFalse(judges()[name].is_valid({"value": value}))
        self.assertEqual(set(judges()), {kind.name for kind in KINDS})


class Processes(SynchronousTestCase):
    """The same over the standard streams of a process of its own."""

    @given(st.lists(PAIRS, min_size=60, max_size=120))
    # A process for each step would make shrinking endless; the same values in memory are shrunk above.
    @settings(deadline=None, max_examples=2, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    def test_standard_streams(self, pairs: list[tuple[Kind, Any]]) -> None:
        lines = []
        for number, (kind, value) in enumerate(pairs):
            params = {"name": kind.name, "arguments": {"value": wire(value)}, "_meta": envelope()}
            message = {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}
            lines.append(json.dumps(message, ensure_ascii=bool(number % 2)).encode() + b"\n")
        with tempfile.TemporaryDirectory(prefix="erlmcp-test-") as folder:
            done = subprocess.run(
                [*ERLMCP, "stdio", "--provider", "tests.interaction.values:provider"],
                input=b"".join(lines),
                capture_output=True,
                timeout=2 * PATIENCE,
                check=False,
                cwd=folder,
                env=environment(),
            )
        self.assertEqual(done.returncode, 0, done.stderr)
        responses = {one["id"]: one for one in map(json.loads, done.stdout.splitlines())}
        self.assertEqual(len(responses), len(pairs))
        for number, (kind, value) in enumerate(pairs):
            result = responses[number]["result"]
            self.assertEqual(result["content"][0]["text"], described(value), kind.name)
