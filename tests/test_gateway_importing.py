"""``erlmcp import``: hosts' configurations as upstreams, without their secrets, and what cannot be translated."""

import io
import json
import stat
import sys
import tomllib
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.cli._main import main
from erlmcp.config import Secret, load
from erlmcp.gateway import Naming, read_host
from erlmcp.gateway._importing import Imported
from tests.published_schemas import ANY_JSON


def host(servers: Any, key: str = "mcpServers") -> Imported:
    return read_host(json.dumps({key: servers}))


class TranslationTests(SynchronousTestCase):
    def one(self, server: dict[str, Any], name: str = "files") -> tuple[dict[str, Any], tuple[str, ...]]:
        found = host({name: server})
        self.assertEqual(found.problems, ())
        (table,) = tomllib.loads(found.text)["upstream"]
        return table, found.notes

    def test_command(self) -> None:
        table, notes = self.one({"command": "npx", "args": ["-y", 'a "b"\n\\', "\x7f\u00fc"], "cwd": "/srv"})
        self.assertEqual(
            table,
            {
                "name": "files",
                "transport": "stdio",
                "command": ["npx", "-y", 'a "b"\n\\', "\x7f\u00fc"],
                "cwd": "/srv",
            },
        )
        self.assertEqual(notes, ())

    def test_url(self) -> None:
        for key, kind in (
            ("url", "http"),
            ("url", "sse"),
            ("url", "streamable-http"),
            ("serverUrl", ""),
            ("httpUrl", "streamableHttp"),
        ):
            table, notes = self.one(
                {key: "https://x.example/mcp?a=1", "type": kind, "headers": {"X-Team": "a"}}
            )
            self.assertEqual(
                table,
                {
                    "name": "files",
                    "transport": "http",
                    "url": "https://x.example/mcp?a=1",
                    "headers": {"X-Team": "a"},
                },
            )
            self.assertEqual(notes, ())

    def test_environment(self) -> None:
        table, notes = self.one(
            {
                "command": "x",
                "env": {
                    "LEVEL": "debug",
                    "DEBUG": True,
                    "PORT": 80,
                    "EMPTY_KEY": "",
                    "HOME2": "${env:HOME}",
                    "U": "${U}",
                },
            }
        )
        self.assertEqual(
            table["env"],
            {
                "LEVEL": "debug",
                "DEBUG": "true",
                "PORT": "80",
                "EMPTY_KEY": "",
                "HOME2": {"env": "HOME"},
                "U": {"env": "U"},
            },
        )
        self.assertEqual(len(notes), 2)
        self.assertIn("mcpServers.files.env.HOME2: read from the environment variable HOME", notes[0])

    def test_secrets(self) -> None:
        """None of them is in the file or in a note."""
        secrets = {
            "GITHUB_TOKEN": "tell-nobody",
            "A": "ghp_tellnobody",
            "B": "postgres://user:tellnobody@host/db",
            "C": "tellnobody0123456789abcdef",
            "D": "Bearer tellnobody",
            "E": "x${input:tellnobody}",
            "F": "x${HOME}tellnobody",
        }
        found = host(
            {
                "one": {"command": "x", "env": secrets},
                "two": {"url": "http://x", "headers": {"Authorization": "Bearer tellnobody"}},
                "three": {"command": "x", "env": {"GITHUB_TOKEN": "tellnobody, another"}},
                "four": {"command": "x", "env": {"GITHUB_TOKEN": "tellnobody, yet another"}},
                "five": {"command": "x", "env": {"GITHUB_TOKEN": "tell-nobody"}},
            }
        )
        self.assertNotIn("tellnobody", found.text)
        self.assertNotIn("tell-nobody", found.text + "".join(found.notes))
        one, two, three, four, five = tomllib.loads(found.text)["upstream"]
        self.assertEqual(one["env"], {name: {"env": name} for name in secrets})
        self.assertEqual(two["headers"], {"Authorization": {"env": "TWO_AUTHORIZATION"}})
        # the same variable with another value cannot be the same variable
        self.assertEqual(three["env"], {"GITHUB_TOKEN": {"env": "THREE_GITHUB_TOKEN"}})
        self.assertEqual(four["env"], {"GITHUB_TOKEN": {"env": "FOUR_GITHUB_TOKEN"}})
        self.assertEqual(five["env"], {"GITHUB_TOKEN": {"env": "GITHUB_TOKEN"}})
        self.assertEqual(len(found.notes), len(secrets) + 4)
        self.assertIn("put what was asked for into the environment variable E", found.notes[5])

    def test_secrets_that_have_no_other_place(self) -> None:
        _, notes = self.one(
            {"command": "x", "args": ["--api-key", "v", "--token=v", "--level", "info", "sk-abc"]}
        )
        self.assertEqual(
            [note.partition(":")[0] for note in notes], [f"mcpServers.files.args[{at}]" for at in (1, 2, 5)]
        )
        _, notes = self.one({"url": "https://x.example/?api_key=1"})
        self.assertIn("its query looks like a secret", notes[0])

    def test_names(self) -> None:
        found = host(
            {
                name: {"command": "x"}
                for name in ("My Files", "my files", "my_files", "1", "ui", "\u00fc", "a" * 40, "a" * 41)
            }
        )
        names = [table["name"] for table in tomllib.loads(found.text)["upstream"]]
        self.assertEqual(
            names,
            [
                "my-files",
                "my-files-2",
                "my-files-3",
                "server-1",
                "server-ui",
                "server",
                "a" * 32,
                "a" * 30 + "-2",
            ],
        )
        for name in names:
            Naming(name)
        self.assertEqual(len(found.notes), len(names))

    def test_the_daemon_takes_it(self) -> None:
        found = host(
            {
                "a": {"command": "x", "args": ["y"], "env": {"TOKEN": "z", "LEVEL": ""}, "cwd": "/srv"},
                "b": {
                    "url": "https://x.example/mcp",
                    "headers": {"Authorization": "Bearer z", "X-Team": "t"},
                },
            }
        )
        file = Path(self.mktemp())
        file.write_text(found.text)
        first, second = load(file, {}).upstreams
        self.assertEqual((first.command, first.cwd), (("x", "y"), "/srv"))
        self.assertEqual(first.credentials.env, {"TOKEN": Secret(env="TOKEN"), "LEVEL": ""})
        self.assertEqual(second.url, "https://x.example/mcp")
        self.assertEqual(
            second.credentials.headers, {"Authorization": Secret(env="B_AUTHORIZATION"), "X-Team": "t"}
        )

    def test_other_places(self) -> None:
        for text in ('{"servers": {"a": {"command": "x"}}}', '{"mcp": {"servers": {"a": {"command": "x"}}}}'):
            self.assertIn('name = "a"', read_host(text).text)

    def test_left_out(self) -> None:
        found = host(
            {"a": {"command": "x", "timeout": 5, "autoApprove": []}, "b": {"command": "y", "disabled": True}}
        )
        self.assertEqual(len(tomllib.loads(found.text)["upstream"]), 1)
        self.assertEqual(
            found.notes,
            (
                "mcpServers.a: left out, since it means nothing here: autoApprove, timeout",
                "mcpServers.b: left out, since it is disabled",
            ),
        )


class WrongTests(SynchronousTestCase):
    def test_files(self) -> None:
        for text, said in (
            ('{"a": 1,\n // c\n}', "line 2, column 2: is no JSON: "),
            ("// c\n{}", "; JSON has no comments"),
            ("[" * 100_000, "it is nested too deeply"),
            ("[]", 'there is no "mcpServers" in it'),
            ('{"mcpServers": []}', "mcpServers: is no object"),
            ('{"mcpServers": {}}', "mcpServers: there is no server to import"),
            (json.dumps({"mcpServers": {str(place): {} for place in range(1001)}}), "it has 1001 servers"),
        ):
            found = read_host(text)
            self.assertEqual(found.text, "")
            self.assertIn(said, found.problems[0])

    def test_servers(self) -> None:
        """All of them are told, each with its place."""
        cases: dict[str, tuple[Any, str]] = {
            "a": (1, "a: is no object; it must have a command or a url"),
            "b": ({}, "b: has neither command nor url"),
            "c": ({"command": "x", "url": "http://x"}, "c: has both command and url; which of them?"),
            "d": ({"type": "ws", "url": "ws://x"}, "d.type: 'ws' is none of stdio, http, sse"),
            "e": ({"type": "http", "command": "x"}, "e: is of type http, and has no url"),
            "f": ({"type": "stdio", "url": "http://x"}, "f: is of type stdio, and has no command"),
            "g": ({"url": "ftp://x"}, "g.url: is no URL with http:// or https://"),
            "h": ({"url": "https://a:b@x"}, "h.url: has a password in it"),
            "i": ({"command": ""}, "i.command: is empty"),
            "j": ({"command": ["x"]}, "j.command: is no text"),
            "k": ({"command": "x", "args": "y"}, "k.args: is no list"),
            "l": ({"command": "x", "args": ["y", 1]}, "l.args[1]: is no text"),
            "m": ({"command": "x", "args": ["${y}"]}, "m.args[0]: has a placeholder"),
            "n": ({"command": "x", "env": []}, "n.env: is no object"),
            "o": ({"command": "x", "env": {"a b": "c"}}, "o.env.a b: is no name of an environment variable"),
            "p": ({"command": "x", "env": {"a": []}}, "p.env.a: is no text"),
            "q": ({"command": "\ud800"}, "q.command: has a character that no configuration can hold"),
            "r": ({"url": "http://x", "headers": {"X": ""}}, "r.headers.X: is empty"),
        }
        found = host({name: server for name, (server, _) in cases.items()})
        self.assertEqual(found.text, "")
        self.assertEqual(len(found.problems), len(cases))
        for problem, (_, said) in zip(found.problems, cases.values(), strict=True):
            self.assertIn(f"mcpServers.{said}", problem)

    @given(
        st.dictionaries(
            st.text(max_size=3),
            ANY_JSON | st.fixed_dictionaries({}, optional={
                "command": st.text() | ANY_JSON, "args": st.lists(st.text()) | ANY_JSON,
                "env": st.dictionaries(st.text(), st.text()) | ANY_JSON, "url": st.just("http://x") | ANY_JSON,
                "headers": st.dictionaries(st.text(), st.text()) | ANY_JSON, "cwd": st.text() | ANY_JSON,
            }),
            max_size=3,
        )
    )  # fmt: skip
    @settings(deadline=None, max_examples=150)
    def test_anything(self, servers: Any) -> None:
        """Either a file that can be read, or problems."""
        found = host(servers)
        self.assertNotEqual(bool(found.text), bool(found.problems))
        tomllib.loads(found.text)


class CommandTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.out, self.errors = io.StringIO(), io.StringIO()
        self.patch(sys, "stdout", self.out)
        self.patch(sys, "stderr", self.errors)
        self.file = Path(self.mktemp())
        self.file.write_text(json.dumps({"mcpServers": {"A": {"command": "x", "env": {"TOKEN": "y"}}}}))

    def test_prints(self) -> None:
        self.assertEqual(main(["import", str(self.file)]), 0)
        self.assertEqual(tomllib.loads(self.out.getvalue())["upstream"][0]["name"], "a")
        self.assertEqual(self.errors.getvalue().count("note: "), 2)

    def test_writes_a_new_file_for_its_owner(self) -> None:
        made = Path(self.mktemp())
        self.assertEqual(main(["import", str(self.file), "-o", str(made)]), 0)
        self.assertEqual(stat.S_IMODE(made.stat().st_mode), 0o600)
        self.assertIn("upstream", tomllib.loads(made.read_text()))
        self.assertEqual(self.out.getvalue(), "")
        self.assertEqual(main(["import", str(self.file), "-o", str(made)]), 1)
        self.assertIn("cannot be written: File exists", self.errors.getvalue())

    def test_standard_input(self) -> None:
        class Input:
            buffer = io.BytesIO(b"\xef\xbb\xbf" + self.file.read_bytes())

        self.patch(sys, "stdin", Input)
        self.assertEqual(main(["import", "-"]), 0)
        self.assertTrue(self.out.getvalue().startswith("# From 'standard input'"))

    def test_wrong(self) -> None:
        for data, said in (
            (b"{}", 'there is no "mcpServers"'),
            (b"\xff", "is not UTF-8"),
            (b" " * (16 * 1024 * 1024 + 1), "is larger than"),
        ):
            self.file.write_bytes(data)
            self.assertEqual(main(["import", str(self.file)]), 1)
            self.assertIn(f"{self.file}: ", self.errors.getvalue())
            self.assertIn(said, self.errors.getvalue())
        self.file.unlink()
        self.assertEqual(main(["import", str(self.file)]), 1)
        self.assertIn("cannot be read: No such file", self.errors.getvalue())
