"""Beginning a session: revisions, ``initialize`` both ways, session ids, and what clients answer in one."""

import hypothesis.strategies as st
import msgspec
from hypothesis import given, settings
from msgspec import UNSET, Raw
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.protocol import (
    HANDSHAKE_METHODS,
    HANDSHAKE_VERSIONS,
    LOG_LEVELS,
    METHODS,
    NO_CAPABILITIES,
    REVISIONS,
    BadSeal,
    Greeting,
    Implementation,
    KeyRing,
    LostSession,
    McpError,
    Params,
    SessionTokens,
    capability_bits,
    check_params,
    client_capabilities,
    initialize_result,
    negotiate,
    principal_binding,
    read_greeting,
    read_level,
    read_response,
)

OLDEST, BATCHING, FORMS, NEWEST = REVISIONS.values()
ALL = (OLDEST, BATCHING, FORMS, NEWEST)
ME = principal_binding("key", "me")
NOW = 1_800_000_000.0


def raw(value):
    return Raw(msgspec.json.encode(value))


def params_of(**fields):
    return msgspec.json.decode(msgspec.json.encode(fields), type=Params)


class Revisions(SynchronousTestCase):
    def test_the_four(self):
        self.assertEqual(tuple(reversed(REVISIONS)), HANDSHAKE_VERSIONS)
        self.assertEqual([revision.rank for revision in ALL], [0, 1, 2, 3])
        self.assertEqual([revision.batches for revision in ALL], [False, True, False, False])

    def test_negotiation(self):
        for name, revision in REVISIONS.items():
            self.assertIs(negotiate(name), revision)
        for other in ("2026-07-28", "1999-01-01", "", "2025-11-25 ", "9" * 1000):
            self.assertIs(negotiate(other), NEWEST)

    def test_methods(self):
        alone = {"initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"}
        self.assertEqual(set(HANDSHAKE_METHODS) - set(METHODS), alone)
        self.assertEqual(set(METHODS) - set(HANDSHAKE_METHODS), {"server/discover", "subscriptions/listen"})
        for name, method in HANDSHAKE_METHODS.items():
            self.assertEqual(method.name, name)
            self.assertFalse(method.cacheable)
        self.assertEqual(HANDSHAKE_METHODS["tools/call"], METHODS["tools/call"])

    def test_required_parameters_are_named_as_on_the_wire(self):
        error = check_params(HANDSHAKE_METHODS["initialize"], params_of())
        self.assertIn("params.protocolVersion", error.message)
        error = check_params(HANDSHAKE_METHODS["resources/subscribe"], UNSET)
        self.assertIn("params.uri", error.message)


class Initialize(SynchronousTestCase):
    CLIENT = {"name": "c", "version": "1", "title": "C"}  # noqa: RUF012 - nobody changes it

    def test_a_greeting(self):
        for name, revision in REVISIONS.items():
            greeting = read_greeting(
                params_of(
                    protocolVersion=name,
                    capabilities={"roots": {"listChanged": True}},
                    clientInfo=self.CLIENT,
                )
            )
            self.assertIs(greeting.revision, revision)
            self.assertEqual(greeting.client, Implementation("c", "1", "C"))
            self.assertIsNone(greeting.capabilities.missing_for({"method": "roots/list"}))

    def test_what_is_missing_is_named(self):
        whole = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": self.CLIENT}
        for name in whole:
            with self.assertRaises(McpError) as caught:
                read_greeting(params_of(**{key: value for key, value in whole.items() if key != name}))
            self.assertEqual(caught.exception.code, -32602)
            self.assertIn(f"params.{name}", caught.exception.message)
        with self.assertRaises(McpError):
            read_greeting(UNSET)

    def test_what_is_wrong_is_named(self):
        for odd, path in (
            ({"clientInfo": {"name": 5, "version": "1"}}, "`params.clientInfo.name`"),
            ({"clientInfo": {"name": "c"}}, "params.clientInfo"),
            ({"clientInfo": 5}, "params.clientInfo"),
            ({"capabilities": {"sampling": 5}}, "`params.capabilities.sampling`"),
            ({"capabilities": []}, "params.capabilities"),
        ):
            whole = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": self.CLIENT}
            with self.assertRaises(McpError) as caught:
                read_greeting(params_of(**{**whole, **odd}))
            self.assertEqual(caught.exception.code, -32602)
            self.assertIn(path, caught.exception.message)

    def test_capabilities_are_cut_to_the_revision(self):
        declared = {
            "elicitation": {"form": {}, "url": {}},
            "sampling": {"tools": {}},
            "roots": {},
            "tasks": {},
            "extensions": {"a/b": {}},
            "experimental": {"x": {}},
        }
        form = {"method": "elicitation/create", "params": {"mode": "form"}}
        url = {"method": "elicitation/create", "params": {"mode": "url"}}
        tools = {"method": "sampling/createMessage", "params": {"tools": []}}
        context = {"method": "sampling/createMessage", "params": {"includeContext": "thisServer"}}
        can = {
            OLDEST: [False, False, False, True],
            BATCHING: [False, False, False, True],
            FORMS: [True, False, False, True],
            NEWEST: [True, True, True, False],
        }
        for revision, expected in can.items():
            found = client_capabilities(raw(declared), revision)
            asked = [found.missing_for(question) is None for question in (form, url, tools, context)]
            self.assertEqual(asked, expected, revision.name)
            self.assertIs(found.extensions, UNSET)
            self.assertEqual(list(found.experimental), ["x"])

    def test_nothing_declared_is_nothing(self):
        for revision in ALL:
            for nothing in (UNSET, raw({})):
                self.assertEqual(client_capabilities(nothing, revision), NO_CAPABILITIES)

    def test_the_result(self):
        capabilities = {
            "tools": {"listChanged": True, "x": 1},
            "resources": {"subscribe": True, "listChanged": True},
            "prompts": {},
            "completions": {},
            "logging": {},
            "extensions": {"a/b": {}},
            "tasks": {},
        }
        info = {"name": "s", "version": "1", "title": "S", "websiteUrl": "https://example.com", "x": 1}
        left = {name: capabilities[name] for name in ("resources", "prompts", "logging")}
        left["tools"] = {"listChanged": True}
        for revision in ALL:
            found = initialize_result(revision, capabilities, info, "Use it.")
            self.assertEqual(set(found), {"protocolVersion", "capabilities", "serverInfo", "instructions"})
            self.assertEqual(found["protocolVersion"], revision.name)
            self.assertEqual(
                found["capabilities"], left if revision is OLDEST else {**left, "completions": {}}
            )
        self.assertEqual(initialize_result(OLDEST, {}, info)["serverInfo"], {"name": "s", "version": "1"})
        self.assertEqual(
            initialize_result(NEWEST, {}, info)["serverInfo"],
            {"name": "s", "version": "1", "title": "S", "websiteUrl": "https://example.com"},
        )
        self.assertNotIn("instructions", initialize_result(NEWEST, {}, info, ""))


class Tokens(SynchronousTestCase):
    def setUp(self):
        self.ring = KeyRing([KeyRing.generate()])
        self.tokens = SessionTokens(self.ring.sealer("session"), lifetime=100.0)

    def greeting(self, name="c", version="1", capabilities=NO_CAPABILITIES, revision=NEWEST):
        return Greeting(revision, capabilities, Implementation(name, version))

    def mint(self, binding=ME, **fields):
        return self.tokens.mint(self.greeting(**fields), "w1", binding, NOW)

    def lost(self, text, binding=ME, now=NOW, tokens=None):
        with self.assertRaises(LostSession) as caught:
            (tokens or self.tokens).read(text, binding, now)
        error = caught.exception
        self.assertEqual(
            (error.code, error.http_status(), error.http_status(modern=False)), (-32600, 404, 404)
        )
        return str(error)

    def test_what_goes_in_comes_out(self):
        declared = client_capabilities(
            raw({"elicitation": {}, "sampling": {"tools": {}}, "roots": {}}), NEWEST
        )
        text, minted = self.mint(name="client", version="2.0", capabilities=declared)
        for tokens in (self.tokens, SessionTokens(self.ring.sealer("session"))):
            for form in (text, text.encode()):
                read = tokens.read(form, ME, NOW)
                self.assertEqual(read, minted)
                self.assertIs(tokens.read(form, ME, NOW + 99), read)
        self.assertIs(read.revision, NEWEST)
        self.assertEqual(read.capabilities, declared)
        self.assertEqual(read.client, Implementation("client", "2.0"))
        self.assertEqual((read.owner, read.born, read.expires), ("w1", NOW, NOW + 100))
        self.assertRegex(read.id, "^[0-9a-f]{32}$")

    def test_each_has_an_id_of_its_own(self):
        self.assertEqual(len({self.mint()[1].id for _ in range(100)}), 100)

    def test_it_is_short_and_visible(self):
        text, token = self.tokens.mint(
            self.greeting(name="\U0001f600" * 1000, version="\U0001f600" * 1000), "w" * 64, ME, NOW
        )
        self.assertLessEqual(len(text), 1024)
        self.assertRegex(text, "^[A-Za-z0-9_-]+$")
        self.assertEqual(token.client_name, "\U0001f600" * 64)
        self.assertEqual(self.tokens.read(text, ME, NOW), token)
        with self.assertRaises(ValueError):
            self.tokens.mint(self.greeting(), "w" * 65, ME, NOW)

    def test_it_expires(self):
        text, _ = self.mint()
        self.lost(text, now=NOW + 100)
        self.tokens.read(text, ME, NOW + 99)
        self.lost(text, now=NOW + 100)
        self.lost(text, now=NOW + 100)

    def test_another_principal_has_it_not(self):
        text, _ = self.mint()
        self.tokens.read(text, ME, NOW)
        for binding in (principal_binding("key", "you"), principal_binding("token", "me"), b""):
            self.lost(text, binding)

    def test_all_that_is_wrong_looks_the_same(self):
        text, _ = self.mint()
        other = KeyRing([KeyRing.generate()])
        said = {
            self.lost(text[:-1]),
            self.lost(text + "A"),
            self.lost(text.swapcase()),
            self.lost(""),
            self.lost("é"),
            self.lost("é".encode()),
            self.lost("A" * 1025),
            self.lost("A" * 1024),
            self.lost(self.ring.sealer("cursor").seal(b"x", ME, NOW + 9)),
            self.lost(self.ring.sealer("session").seal(b"x", ME, NOW + 9)),
            self.lost(text, tokens=SessionTokens(other.sealer("session"))),
        }
        self.assertEqual(len(said), 1)

    def test_a_revision_that_is_no_more(self):
        payload = ["2019-01-01", b"x" * 16, 0, "c", "1", "w1", NOW, NOW + 9]
        self.lost(self.ring.sealer("session").seal(msgspec.msgpack.encode(payload), ME, NOW + 9))

    def test_a_rotated_key(self):
        old, new = KeyRing.generate(), KeyRing.generate()
        text, minted = SessionTokens(KeyRing([old]).sealer("session")).mint(self.greeting(), "w1", ME, NOW)
        self.assertEqual(SessionTokens(KeyRing([new, old]).sealer("session")).read(text, ME, NOW), minted)
        self.lost(text, tokens=SessionTokens(KeyRing([new]).sealer("session")))

    def test_memory_is_bounded(self):
        from erlmcp.protocol import _sessions

        self.patch(_sessions, "_REMEMBERED", 3)
        texts = [self.mint()[0] for _ in range(9)]
        for text in texts * 2:
            self.tokens.read(text, ME, NOW)
        self.assertEqual(len(self.tokens._known), 3)

    def test_what_is_not_valid_is_not_remembered(self):
        text, _ = self.mint()
        self.lost(text[:-2])
        self.assertEqual(len(self.tokens._known), 0)

    def test_capability_bits(self):
        seen = set()
        for elicitation in ({}, {"form": {}}, {"url": {}}, {"form": {}, "url": {}}, None):
            for sampling in ({}, {"tools": {}}, {"context": {}}, {"tools": {}, "context": {}}, None):
                for roots in ({}, None):
                    parts = {"elicitation": elicitation, "sampling": sampling, "roots": roots}
                    wire = {name: part for name, part in parts.items() if part is not None}
                    declared = client_capabilities(raw(wire), NEWEST)
                    seen.add(capability_bits(declared))
                    self.assertEqual(self.mint(capabilities=declared)[1].capabilities, declared)
        self.assertEqual(len(seen), 50)
        self.assertLess(max(seen), 128)

    @given(st.text(max_size=5), st.text(max_size=5), st.text(max_size=5), st.text(max_size=5))
    @settings(deadline=None, max_examples=50)
    def test_no_two_principals_have_the_same_binding(self, kind, one, other_kind, other):
        same = principal_binding(kind, one) == principal_binding(other_kind, other)
        self.assertEqual(same, (kind, one) == (other_kind, other))

    @given(st.binary(max_size=100))
    @settings(deadline=None, max_examples=50)
    def test_any_sealed_payload(self, payload):
        """Only this program seals; a defect in it is still no defect here."""
        tokens = SessionTokens(KeyRing([b"k" * 32]).sealer("session"))
        text = KeyRing([b"k" * 32]).sealer("session").seal(payload, ME, NOW + 9)
        self.lost(text, tokens=tokens)

    def test_it_is_what_a_sealer_makes(self):
        text, _ = self.mint()
        with self.assertRaises(BadSeal):
            self.ring.sealer("other").unseal(text, ME, NOW)


class Answers(SynchronousTestCase):
    def test_a_result(self):
        self.assertEqual(read_response(raw({"roots": []}), UNSET), {"roots": []})

    def test_an_error(self):
        with self.assertRaises(McpError) as caught:
            read_response(UNSET, raw({"code": -1, "message": "no" * 1000, "data": {"a": 1}}))
        error = caught.exception
        self.assertEqual((error.code, len(error.message), error.data), (-1, 1000, {"a": 1}))
        with self.assertRaises(McpError) as caught:
            read_response(UNSET, raw({"code": -32601, "message": "none"}))
        self.assertIs(caught.exception.data, UNSET)

    def test_neither(self):
        endless = Raw(b'{"a":1e999}')
        for result, error in (
            (raw([]), UNSET),
            (endless, UNSET),
            (UNSET, raw("no")),
            (UNSET, raw({"code": "1", "message": "x"})),
            (UNSET, raw({"code": 1})),
        ):
            with self.assertRaises(McpError) as caught:
                read_response(result, error)
            self.assertEqual(caught.exception.code, -32603)

    def test_levels(self):
        for level in LOG_LEVELS:
            self.assertEqual(read_level(params_of(level=level)), level)
        for odd in (UNSET, params_of(), params_of(level="loud"), params_of(level="INFO")):
            with self.assertRaises(McpError) as caught:
                read_level(odd)
            self.assertEqual(caught.exception.code, -32602)
            self.assertIn("level", caught.exception.message)
