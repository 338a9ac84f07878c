"""Digests of tools' definitions: what changes one, the file of them, what differs from it; and ``erlmcp pin``."""

import json
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.gateway import Accepted, Differences, accepted, compare, digests, read_pins, write_pins
from erlmcp.gateway._pins import digest

examples = settings(deadline=None, max_examples=60)
TOOL = {
    "name": "read",
    "title": "Read",
    "description": "Reads.",
    "inputSchema": {"type": "object", "properties": {"a": {"type": "string"}, "b": {}}},
    "outputSchema": {"type": "object"},
    "annotations": {"readOnlyHint": True},
}
PIN = "sha256:" + "0" * 64
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


def raw(tool: Any) -> Raw:
    return Raw(json.dumps(tool).encode())


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


class DigestTests(SynchronousTestCase):
    def test_what_does_not_matter(self) -> None:
        """Order, blanks, escapes, what is null, and what no model goes by."""
        same = digest(TOOL)
        self.assertRegex(same, r"\Asha256:[0-9a-f]{64}\Z")
        turned = {
            key: {**dict(reversed(part.items()))} if isinstance(part, dict) else part
            for key, part in reversed(TOOL.items())
        }
        self.assertEqual(digest(turned), same)
        self.assertEqual(
            digest(Raw(json.dumps(TOOL, indent=3).replace("Reads", "\\u0052eads").encode())), same
        )
        self.assertEqual(digest({**TOOL, "_meta": {"a": 1}, "icons": [], "execution": {}}), same)
        self.assertEqual(digest({"name": "a", "title": None}), digest({"name": "a"}))

    def test_what_matters(self) -> None:
        found = {digest({**TOOL, key: "other"}) for key in TOOL}
        found |= {digest({key: part for key, part in TOOL.items() if key != left}) for left in TOOL}
        self.assertEqual(len(found | {digest(TOOL)}), 2 * len(TOOL) + 1)
        # the order of a list, and a key within a schema
        self.assertNotEqual(digest({"inputSchema": [1, 2]}), digest({"inputSchema": [2, 1]}))
        self.assertNotEqual(digest({"inputSchema": {"a": None}}), digest({"inputSchema": {}}))

    def test_no_digest(self) -> None:
        for tool in (Raw(b"[]"), Raw(b'{"inputSchema":1e999}'), {"inputSchema": nested(100_000)}):
            self.assertRaises(ValueError, digest, tool)

    def test_many(self) -> None:
        found = digests([raw(TOOL), {**TOOL, "title": "second"}, {"name": "b"}])
        self.assertEqual(found, {"read": digest(TOOL), "b": digest({"name": "b"})})
        for tools, said in (
            ([{"name": "a"}, {"title": "x"}], "the tool in place 2 has no name"),
            ([Raw(b"1")], "the tool in place 1 has no name"),
            ([{"name": "a", "inputSchema": nested(100_000)}], "the tool 'a': no digest can be made of it"),
        ):
            error = self.assertRaises(ValueError, digests, tools)
            self.assertIn(said, str(error))


class ComparingTests(SynchronousTestCase):
    def test_differences(self) -> None:
        found = compare({"a": "1", "b": "1", "d": "1"}, {"a": "1", "b": "2", "c": "1"})
        self.assertEqual(found, Differences(new=("c",), changed=("b",), gone=("d",)))
        self.assertTrue(found)
        self.assertFalse(compare({"a": "1"}, {"a": "1"}))

    def test_verdict(self) -> None:
        known = Accepted(digests([TOOL]))
        self.assertIsNone(known.verdict("read", raw(TOOL)))
        self.assertEqual(known.verdict("read", raw({**TOOL, "title": "x"})), "changed")
        self.assertEqual(known.verdict("write", raw(TOOL)), "new")


class FileTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.file = Path(self.mktemp())

    def refused(self, said: str) -> None:
        error = self.assertRaises(ValueError, read_pins, self.file)
        self.assertIn(str(self.file), str(error))
        self.assertIn(said, str(error))

    def test_none(self) -> None:
        self.assertEqual(read_pins(self.file), {})

    @given(st.dictionaries(NAMES, st.dictionaries(NAMES, st.just(PIN), max_size=3), max_size=3))
    @examples
    def test_there_and_back(self, pins: dict[str, dict[str, str]]) -> None:
        """Tools may be called anything."""
        write_pins(self.file, pins)
        self.assertEqual(read_pins(self.file), pins)

    def test_nothing_is_left_behind(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        write_pins(folder / "pins.toml", {"a": {"b": PIN}})
        self.assertEqual([one.name for one in folder.iterdir()], ["pins.toml"])
        self.assertTrue((folder / "pins.toml").read_text().startswith("# "))
        self.assertRaises(OSError, write_pins, folder / "no" / "pins.toml", {})

    def test_wrong(self) -> None:
        for text, said in (
            ("a = ", "is no TOML: "),
            ("a = 1", "a is no table; write [a]"),
            ("[a]\nb = 1", "a.b is no digest"),
            ("[a]\nb = 'sha256:0'", "a.b is no digest; it is 'sha256:' and 64 hexadecimal digits"),
        ):
            self.file.write_text(text)
            self.refused(said)
        self.file.write_bytes(b"# \xff")
        self.refused("is not UTF-8")
        with self.file.open("wb") as stream:
            stream.truncate(1 << 30)
        self.refused("is larger than")
        self.file.unlink()
        self.file.mkdir()
        self.refused("cannot be read: Is a directory")

    def test_what_is_accepted(self) -> None:
        write_pins(self.file, {"files": {"read": PIN}})
        found = accepted(self.file, "files", "flag", demanded=True)
        self.assertEqual(found, Accepted({"read": PIN}, "flag"))
        self.assertIsNone(accepted(self.file, "other", "hide", demanded=False))
        self.assertIsNone(accepted(None, "files", "hide", demanded=False))
        error = self.assertRaises(ValueError, accepted, self.file, "other", "hide", demanded=True)
        self.assertIn("has no pins of 'other': `erlmcp pin` records them", str(error))
