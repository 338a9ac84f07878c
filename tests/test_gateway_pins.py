"""Digests of tools' definitions: what changes one, the file of them, what differs from it; and ``erlmcp pin``."""

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw
from twisted.internet.defer import ensureDeferred
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.cli._main import main
from erlmcp.cli._pin import pin_all
from erlmcp.config import load
from erlmcp.gateway import Accepted, Differences, accepted, compare, digests, read_pins, write_pins
from erlmcp.gateway._pins import digest
from tests.daemon import PATIENCE, ROOT, environment

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
PROVIDER = '[[provider]]\nuse = "erlmcp.examples.demo:provider"\n'
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


class CommandTests(SynchronousTestCase):
    """``erlmcp pin`` over the demo provider, as a child process, in a process of its own."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.config = self.folder / "erlmcp.toml"
        self.state = self.folder / "state"
        self.write()

    def write(self, extra: str = "", *, state: bool = True) -> None:
        command = json.dumps([sys.executable, "-m", "erlmcp.cli", "stdio"])
        said = f'[server]\nstate = "{self.state}"\n' if state else ""
        self.config.write_text(
            f'{said}[[upstream]]\nname = "demo"\ntransport = "stdio"\ncommand = {command}\n'
            f"env = {{ PYTHONPATH = {json.dumps(str(ROOT))} }}\n{extra}"
        )

    def pin(self, *arguments: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [sys.executable, "-m", "erlmcp.cli", "pin", str(self.config), *arguments],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.DEVNULL,
        )
        return done.returncode, done.stdout, done.stderr

    def test_recorded_compared_accepted(self) -> None:
        file = self.state / "pins.toml"
        status, out, errors = self.pin()
        self.assertEqual((status, errors), (0, ""))
        self.assertRegex(out, rf"\Ademo: [0-9]+ tools recorded in {file}\n\Z")
        recorded = read_pins(file)
        self.assertIn("add", recorded["demo"])
        status, out, errors = self.pin("--upstream", "demo")
        self.assertEqual((status, errors), (0, ""))
        self.assertRegex(out, r"\Ademo: [0-9]+ tools, as accepted\n\Z")
        before = {**recorded["demo"], "add": PIN, "was": PIN}
        del before["calculate"]
        write_pins(file, {"demo": before, "other": {"a": PIN}})
        status, out, errors = self.pin()
        self.assertEqual(status, 1)
        self.assertEqual(out, "demo: new: calculate\ndemo: changed: add\ndemo: gone: was\n")
        self.assertIn("then say --accept", errors)
        self.assertEqual(read_pins(file)["demo"], before)
        status, _, errors = self.pin("--accept")
        self.assertEqual((status, errors), (0, ""))
        self.assertEqual(read_pins(file), {**recorded, "other": {"a": PIN}})

    def test_unreachable(self) -> None:
        """The others are recorded nevertheless; a file of its own may be named."""
        own = self.folder / "own.toml"
        more = '[[upstream]]\nname = "gone"\ntransport = "tcp"\nendpoint = "tcp:127.0.0.1:1"\n'
        self.write(f'pins = "{own}"\n{more}')
        status, _, errors = self.pin()
        self.assertEqual(status, 3)
        self.assertRegex(errors, r"\Agone: not reached: .*refused")
        self.assertEqual(list(read_pins(own)), ["demo"])

    def test_wrong_configuration(self) -> None:
        errors = io.StringIO()
        self.patch(sys, "stderr", errors)
        for said, text, more in (
            ("there is no upstream 'dmo'; did you mean demo?", None, ["--upstream", "dmo"]),
            ("is no TOML", "[", []),
            ("has no [[upstream]], so there is nothing", PROVIDER, []),
        ):
            if text is not None:
                self.config.write_text(text)
            self.assertEqual(main(["pin", str(self.config), *more]), 1)
            self.assertIn(said, errors.getvalue())

    def test_not_to_be_had(self) -> None:
        """What an upstream cannot be asked for, and what there is no place for."""
        errors = io.StringIO()
        self.patch(sys, "stderr", errors)
        for said, state, reached in (
            ("demo: there is no state directory to keep pins in", False, ValueError("never asked")),
            (
                "demo: the environment has no variable X",
                True,
                ValueError("the environment has no variable X"),
            ),
            ("demo: /no/ca.pem: No such file", True, FileNotFoundError(2, "No such file", "/no/ca.pem")),
        ):
            self.write(state=state)
            settings = load(self.config, {})

            def reach(_: Any, reached: Exception = reached) -> Any:
                raise reached

            work = pin_all(None, settings, settings.upstreams, reach, accept=False)
            self.assertEqual(self.successResultOf(ensureDeferred(work)), 1)
            self.assertIn(said, errors.getvalue())
        self.state.rmdir()
        self.state.write_text("in the way")
        work = pin_all(None, settings, settings.upstreams, reach, accept=False)
        self.assertEqual(self.successResultOf(ensureDeferred(work)), 1)
        self.assertIn(f"demo: {self.state}: File exists\n", errors.getvalue())
