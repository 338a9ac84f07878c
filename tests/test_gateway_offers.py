"""What upstreams list, as it is listed here: renamed, mended, left out with a reason, or byte for byte as it came."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.gateway import Accepted, Naming, digests
from erlmcp.gateway._lists import Lists
from erlmcp.gateway._offers import definitions
from erlmcp.interfaces import Definitions
from erlmcp.protocol import HANDSHAKE_VERSIONS, MODERN, REVISIONS, down_definition
from tests.published_schemas import need_schemas, problem, values

examples = settings(deadline=None, max_examples=25)
ANY = {"type": "object"}
KINDS = {
    "tools": ("Tool", "tools/list"),
    "prompts": ("Prompt", "prompts/list"),
    "resources": ("Resource", "resources/list"),
    "templates": ("ResourceTemplate", "resources/templates/list"),
}
FILES = Naming("files")
PLAIN = Naming("files", "none")


def raw(value: Any) -> Raw:
    return Raw(value if isinstance(value, bytes) else json.dumps(value).encode())


def offered(
    naming: Naming = FILES, accepted: Accepted | None = None, **lists: Any
) -> tuple[Definitions, list[str]]:
    entries = {kind: tuple(map(raw, entries)) for kind, entries in lists.items()}
    return definitions(Lists(**entries), naming, accepted)


def wire(definition: Any) -> Any:
    return json.loads(bytes(definition.wire))


class ValidityTests(SynchronousTestCase):
    """Whatever an upstream of any revision may list, clients of all revisions can read."""

    def setUp(self) -> None:
        need_schemas()

    @given(st.data(), st.sampled_from([MODERN, *HANDSHAKE_VERSIONS]), st.sampled_from([FILES, PLAIN]))
    @examples
    def test_wires(self, data: st.DataObject, version: str, naming: Naming) -> None:
        for kind, (name, method) in KINDS.items():
            entry = data.draw(values(version, name))
            found, _ = offered(naming, **{kind: [entry]})
            for one in getattr(found, kind).values():
                self.assertIsNone(problem(MODERN, name, wire(one)))
                # Mended once is mended for good: one gateway further nothing is changed any more.
                again = getattr(offered(PLAIN, **{kind: [bytes(one.wire)]})[0], kind)
                self.assertEqual([bytes(other.wire) for other in again.values()], [bytes(one.wire)])
                for older in HANDSHAKE_VERSIONS:
                    cut = json.loads(bytes(down_definition(method, one.wire, REVISIONS[older])))
                    self.assertIsNone(problem(older, name, cut))

    @given(st.sampled_from(sorted(KINDS)), st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=3),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(
            st.sampled_from(["name", "uri", "uriTemplate", "title", "icons", "annotations", "inputSchema", "arguments",
                             "_meta", "type", "src", "outputSchema", "size"]), inner, max_size=4),
        max_leaves=12,
    ))  # fmt: skip
    @settings(deadline=None, max_examples=300)
    def test_anything(self, kind: str, entry: Any) -> None:
        """Nonsense is left out with a reason, or mended."""
        found, problems = offered(FILES, **{kind: [entry]})
        self.assertEqual(len(getattr(found, kind)) + len(problems), 1)
        for one in getattr(found, kind).values():
            self.assertIsNone(problem(MODERN, KINDS[kind][0], wire(one)))


class ToolTests(SynchronousTestCase):
    def test_prefixed(self) -> None:
        """Only the name is another; the rest has the very bytes that came."""
        entry = (
            b'{"x-own": 1.0, "name":"read" ,"inputSchema":{ "type":"object","a":1e2},"_meta":{"k":"\\u00e9"}}'
        )
        found, problems = offered(tools=[entry])
        self.assertEqual(problems, [])
        tool = found.tools["files.read"]
        self.assertEqual(tool.name, "files.read")
        self.assertEqual(
            bytes(tool.wire),
            b'{"x-own":1.0,"name":"files.read","inputSchema":{ "type":"object","a":1e2},"_meta":{"k":"\\u00e9"}}',
        )

    def test_as_they_came(self) -> None:
        entries = {
            "tools": b'{ "name":"read", "inputSchema":{"type": "object"} }',
            "prompts": b'{ "name":"read" }',
            "resources": b'{ "name":"n", "uri":"a:b" }',
            "templates": b'{ "name":"n", "uriTemplate":"a:{b}" }',
        }
        found, _ = offered(PLAIN, **{kind: [entry] for kind, entry in entries.items()})
        for kind, entry in entries.items():
            self.assertEqual([bytes(one.wire) for one in getattr(found, kind).values()], [entry])

    def test_hints(self) -> None:
        found, _ = offered(
            tools=[
                {
                    "name": "a",
                    "inputSchema": ANY,
                    "annotations": {"readOnlyHint": True, "idempotentHint": False},
                },
                {"name": "b", "inputSchema": ANY, "annotations": {"idempotentHint": True, "odd": []}},
                {"name": "c", "inputSchema": ANY, "annotations": {"readOnlyHint": "yes"}},
                {"name": "d", "inputSchema": ANY},
            ]
        )
        hints = {name: (tool.read_only, tool.idempotent) for name, tool in found.tools.items()}
        self.assertEqual(
            hints,
            {
                "files.a": (True, False),
                "files.b": (False, True),
                "files.c": (False, False),
                "files.d": (False, False),
            },
        )
        self.assertNotIn("annotations", wire(found.tools["files.c"]))
        self.assertTrue(all(tool.input is None for tool in found.tools.values()))

    def test_schemas(self) -> None:
        for schema, expected in (
            (None, ANY),
            ({"properties": {}}, {"type": "object", "properties": {}}),
            ({"type": "object"}, ANY),
        ):
            found, problems = offered(tools=[{"name": "a", "inputSchema": schema}])
            self.assertEqual(problems, [])
            self.assertEqual(wire(found.tools["files.a"])["inputSchema"], expected)
        found, _ = offered(tools=[b'{"name":"a","inputSchema":{"type":"\\u006fbject"}}', {"name": "b"}])
        self.assertEqual(sorted(found.tools), ["files.a", "files.b"])
        found, _ = offered(
            tools=[{"name": "a", "outputSchema": True, "title": None, "icons": [{"sizes": 1}]}]
        )
        self.assertEqual(wire(found.tools["files.a"]), {"name": "files.a", "inputSchema": ANY})

    def test_left_out(self) -> None:
        for entry, said in (
            ({"name": 1}, "the tool in place 1 is left out: expected str, got int - at name"),
            ({"inputSchema": ANY}, "the tool in place 1 is left out: object missing required field name"),
            ({"name": ""}, "is left out: expected str of length >= 1 - at name"),
            (
                {"name": "a\x1b", "inputSchema": []},
                "the tool 'a?' is left out: expected object, got array - at inputS",
            ),
            (
                {"name": "a", "inputSchema": {"type": "string"}},
                'is of type \'"string"\', and must be of type "object"',
            ),
            ({"name": "a", "inputSchema": {"type": ["object"]}}, "and must be of type"),
            ([], "the tool in place 1 is left out: expected object, got array"),
            (b'{"name":"a","title":"\\ud800"}', "the tool in place 1 is left out: it cannot be read: "),
            (b'{"name":"a","inputSchema":{"x-mcp-header":"a"}}', "x-mcp-header at the root"),
            (b'{"name":"a","inputSchema":' + b'{"\\u0041":' * 3000 + b"1" + b"}" * 3001, "is left out: "),
        ):
            found, problems = offered(tools=[entry])
            self.assertEqual(len(found.tools), 0, entry)
            self.assertEqual(len(problems), 1)
            self.assertIn(said, problems[0])

    def test_two_of_a_name(self) -> None:
        found, problems = offered(tools=[{"name": "a", "title": "1"}, {"name": "a", "title": "2"}])
        self.assertEqual(wire(found.tools["files.a"])["title"], "1")
        self.assertEqual(problems, ["the tool 'a' is left out: there is another of that name"])

    def test_header_parameters(self) -> None:
        schema = {"type": "object", "properties": {"r": {"type": "string", "x-mcp-header": "Region"}}}
        found, _ = offered(tools=[{"name": "a", "inputSchema": schema}])
        (parameter,) = found.tools["files.a"].header_parameters
        self.assertEqual((parameter.path, parameter.header), (("r",), b"mcp-param-region"))
        escaped = json.dumps({"name": "a", "inputSchema": schema}).replace("x-mcp", "\\u0078-mcp").encode()
        found, _ = offered(tools=[escaped])
        self.assertEqual(found.tools["files.a"].header_parameters, (parameter,))
        schema["properties"]["r"]["type"] = "object"  # type: ignore[index] - a dict of dicts
        found, problems = offered(tools=[{"name": "a", "inputSchema": schema}])
        self.assertEqual(len(found.tools), 0)
        self.assertIn("the tool 'a' is left out: x-mcp-header of r: only a string", problems[0])

    def test_described(self) -> None:
        naming = Naming("files", describe={"a": {"title": "A!"}, "b": {"description": "B."}})
        found, _ = offered(
            naming,
            tools=[
                {"name": "a", "title": "x", "description": "kept", "annotations": {"title": "y", "odd": 1}},
                {"name": "b", "description": "x"},
            ],
        )
        one, other = wire(found.tools["files.a"]), wire(found.tools["files.b"])
        self.assertEqual((one["title"], one["description"]), ("A!", "kept"))
        self.assertEqual(one["annotations"], {"title": "A!", "odd": 1})
        self.assertEqual(other["description"], "B.")
        self.assertNotIn("title", other)

    def test_renamed_to_what_another_would_be_called(self) -> None:
        naming = Naming("files", "none", names={"copy": "write"})
        found, problems = offered(naming, tools=[{"name": "write"}, {"name": "copy"}])
        self.assertEqual(wire(found.tools["write"])["name"], "write")
        self.assertEqual(len(found.tools), 1)
        self.assertIn(
            "the tool 'write' is left out: 'copy' is renamed to what it would be called here", problems[0]
        )

    def test_apps(self) -> None:
        """The resource that shows a tool is found under the URI that it has here."""
        meta = {
            "ui": {"resourceUri": "ui://a/b", "visibility": ["model"]},
            "ui/resourceUri": "ui://a/b",
            "x": 1,
        }
        found, _ = offered(tools=[{"name": "a", "_meta": meta}, {"name": "b", "_meta": {"ui": 1, "x": 1}}])
        self.assertEqual(
            wire(found.tools["files.a"])["_meta"],
            {
                "ui": {"resourceUri": "ui://files/a/b", "visibility": ["model"]},
                "ui/resourceUri": "ui://files/a/b",
                "x": 1,
            },
        )
        self.assertEqual(wire(found.tools["files.b"])["_meta"], {"ui": 1, "x": 1})
        (tool,) = offered(tools=[b'{"name":"a","_meta":{"ui":1e999}}'])[0].tools.values()
        self.assertIn(b'"_meta":{"ui":1e999}', bytes(tool.wire))
        found, _ = offered(PLAIN, tools=[{"name": "a", "_meta": meta}])
        self.assertEqual(wire(found.tools["a"])["_meta"], meta)


class OtherTests(SynchronousTestCase):
    def test_prompts(self) -> None:
        arguments = [{"name": "code", "required": True}, {"name": "style", "odd": 1}]
        found, problems = offered(
            prompts=[
                {"name": "review", "arguments": arguments},
                {"name": "none", "arguments": None},
                {"name": "bad", "arguments": [{"title": "x"}]},
                {"name": "worse", "arguments": {}},
            ]
        )
        self.assertEqual(found.prompts["files.review"].arguments, {"code": True, "style": False})
        self.assertEqual(wire(found.prompts["files.review"])["arguments"], arguments)
        self.assertEqual(wire(found.prompts["files.none"]), {"name": "files.none"})
        self.assertEqual(len(found.prompts), 2)
        self.assertIn("the prompt 'bad' is left out: object missing required field name", problems[0])
        self.assertIn("the prompt 'worse' is left out: expected array", problems[1])

    def test_hidden(self) -> None:
        """What the configuration hides is not among the problems."""
        naming = Naming("files", deny=["x*"])
        found, problems = offered(
            naming,
            tools=[{"name": "x"}],
            prompts=[{"name": "x"}],
            resources=[{"name": "n", "uri": "x:y"}],
            templates=[{"name": "n", "uriTemplate": "x:{y}"}, {"name": "n", "uriTemplate": "{+any}"}],
        )
        self.assertEqual((found.tools, found.prompts, found.resources, problems), ({}, {}, {}, []))
        match = found.templates["files:{+any}"].match
        self.assertIsNone(match("files:x:secret"))
        self.assertEqual(match("files:y:open"), {"any": "y:open"})

    def test_resources(self) -> None:
        naming = Naming("files", describe={"file:///a": {"title": "A"}})
        found, problems = offered(
            naming,
            resources=[{"uri": "file:///a", "name": "a", "size": "big"}, {"uri": "file:///b"}, {"name": "n"}],
        )
        self.assertEqual(
            wire(found.resources["files+file:///a"]), {"uri": "files+file:///a", "name": "a", "title": "A"}
        )
        self.assertEqual(wire(found.resources["files+file:///b"])["name"], "file:///b")
        self.assertEqual(problems, ["the resource 'n' is left out: object missing required field uri"])

    def test_templates(self) -> None:
        found, problems = offered(
            templates=[
                {"uriTemplate": "users://{id}/profile", "name": "p"},
                {"uriTemplate": "users://{", "name": "bad"},
                {"uriTemplate": "notes://{id:3}", "name": "odd"},
                {"uriTemplate": "ui://{x}", "name": "app"},
            ]
        )
        profile = found.templates["files+users://{id}/profile"]
        self.assertEqual(wire(profile)["uriTemplate"], "files+users://{id}/profile")
        self.assertEqual(profile.match("files+users://7/profile"), {"id": "7"})
        self.assertIsNone(profile.match("users://7/profile"))
        self.assertEqual(found.templates["ui://files/{x}"].match("ui://files/main"), {"x": "main"})
        # nothing tells which values made the URI: the upstream knows
        odd = found.templates["files+notes://{id:3}"]
        self.assertEqual(odd.match("files+notes://abc"), {})
        self.assertIsNone(odd.match("files+other://abc"))
        self.assertEqual(len(problems), 1)
        self.assertIn("the resource template 'users://{' is left out: its uriTemplate is none", problems[0])

    def test_what_is_declared(self) -> None:
        lists = Lists(
            capabilities={"completions": {}, "logging": {}, "resources": {"subscribe": True}},
            instructions="Read first.",
            ttl_ms=5,
            cache_scope="private",
        )
        found, _ = definitions(lists, FILES)
        self.assertTrue(found.completions and found.logging and found.subscribe)
        self.assertEqual((found.ttl_ms, found.cache_scope), (5, "private"))
        self.assertIn('"files."', found.instructions)
        self.assertTrue(found.instructions.endswith("\nRead first."))
        self.assertEqual(definitions(lists, PLAIN)[0].instructions, "Read first.")
        self.assertEqual(definitions(Lists(capabilities={"resources": 1}), FILES)[0].subscribe, False)


class PinnedTests(SynchronousTestCase):
    TOOLS = ({"name": "same"}, {"name": "other", "description": "now"}, {"name": "added"})

    def setUp(self) -> None:
        self.pins = digests([{"name": "same"}, {"name": "other", "description": "then"}])

    def test_hidden(self) -> None:
        found, problems = offered(FILES, Accepted(self.pins), tools=self.TOOLS)
        self.assertEqual(list(found.tools), ["files.same"])
        self.assertEqual(
            problems,
            [
                "the tool 'other' is left out: it has changed since it was accepted; `erlmcp pin --accept` accepts it",
                "the tool 'added' is left out: it has never been accepted; `erlmcp pin --accept` accepts it",
            ],
        )

    def test_flagged(self) -> None:
        found, problems = offered(FILES, Accepted(self.pins, "flag"), tools=self.TOOLS)
        marks = {name: wire(tool).get("_meta") for name, tool in found.tools.items()}
        self.assertEqual(
            marks,
            {
                "files.same": None,
                "files.other": {"io.erlmcp/pin": "changed"},
                "files.added": {"io.erlmcp/pin": "new"},
            },
        )
        self.assertEqual(len(problems), 2)
        self.assertIn("the tool 'other' has changed since it was accepted", problems[0])

    def test_names_here_do_not_matter(self) -> None:
        """What is accepted is what the upstream says, not what is made of it."""
        naming = Naming(
            "files", names={"same": "x"}, describe={"same": {"title": "y"}}, deny=["added", "other"]
        )
        found, problems = offered(naming, Accepted(self.pins), tools=self.TOOLS)
        self.assertEqual((list(found.tools), problems), (["x"], []))

    def test_no_digest(self) -> None:
        found, problems = offered(
            FILES, Accepted(self.pins), tools=[b'{"name":"same","inputSchema":{"a":1e999}}']
        )
        self.assertEqual(len(found.tools), 0)
        self.assertIn("no digest can be made of it", problems[0])
