"""Reading and merging configuration files: places, drop-ins, what cannot be read."""

import os
import tomllib
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.config._lines import locate
from erlmcp.config._sources import Merged, Source, read, spell


class LineTests(SynchronousTestCase):
    """Where each key is."""

    def test_keys_and_headers(self) -> None:
        text = 'a = 1\n\n# note = 2\n[server]\nname = "x"\n"quoted key" = 1\nlimits.depth = 3\n'
        self.assertEqual(
            locate(text),
            {
                ("a",): 1,
                ("server",): 4,
                ("server", "name"): 5,
                ("server", "quoted key"): 6,
                ("server", "limits", "depth"): 7,
            },
        )

    def test_arrays_of_tables(self) -> None:
        text = "[[listen]]\na = 1\n[listen.limits]\nb = 2\n[[listen]]\na = 3\n[listen.limits]\nb = 4\n"
        text += "[[listen.x]]\nc = 5\n"
        lines = locate(text)
        self.assertEqual(lines["listen", 0, "limits", "b"], 4)
        self.assertEqual(lines["listen", 1, "a"], 6)
        self.assertEqual(lines["listen", 1, "limits", "b"], 8)
        self.assertEqual(lines["listen", 1, "x", 0, "c"], 10)

    def test_values_that_look_like_keys(self) -> None:
        text = 'a = """\nb = 1\n[c]\n"""\nd = [\n  "x = 1", # ]\n  { e = 2 },\n]\nf = \'\'\'\ng = 1\'\'\'\nh = "\\"]"\n'
        tomllib.loads(text)
        self.assertEqual(locate(text), {("a",): 1, ("d",): 5, ("f",): 9, ("h",): 11})

    @settings(deadline=None, max_examples=60)
    @given(
        st.lists(
            st.tuples(
                st.from_regex(r"[a-z]{1,6}", fullmatch=True),
                st.one_of(
                    st.integers().map(str),
                    st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=8).map(
                        lambda text: "'''" + text.replace("'", "") + "\n[x]\ny = 1'''"
                    ),
                    st.just("[1,\n 2, # a = 1\n]"),
                    st.just('{ a = 1, b = "}" }'),
                ),
            ),
            unique_by=lambda pair: pair[0],
            max_size=8,
        )
    )
    def test_against_tomllib(self, pairs: list[tuple[str, str]]) -> None:
        """Exactly tomllib's keys are found, each on the line that begins with it."""
        text = "".join(f"{key} = {value}\n" for key, value in pairs)
        lines = locate(text)
        self.assertEqual({path[0] for path in lines}, set(tomllib.loads(text)))
        rows = text.split("\n")
        for (key,), line in lines.items():
            self.assertTrue(rows[line - 1].startswith(f"{key} ="))


class MergeTests(SynchronousTestCase):
    """Several files as one."""

    def merged(self, **texts: str) -> Merged:
        merged = Merged()
        for name, text in texts.items():
            merged.add(Source(name, text, tomllib.loads(text)))
        return merged

    def test_tables_grow_and_arrays_are_appended_to(self) -> None:
        merged = self.merged(
            a="[server]\nname = 'x'\n[[listen]]\nt = 1\n", b="[server]\ndrain = 1\n[[listen]]\nt = 2\n"
        )
        self.assertEqual(merged.table, {"server": {"name": "x", "drain": 1}, "listen": [{"t": 1}, {"t": 2}]})
        self.assertEqual(merged.problems, [])
        self.assertEqual(merged.place(("listen", 1, "t")), ("b", 4))
        self.assertEqual(merged.place(("listen", 1, "missing")), ("b", 3))
        self.assertEqual(merged.place(("nowhere",)), ("", 0))

    def test_set_twice(self) -> None:
        merged = self.merged(
            a="[server]\nname = 'x'\nports = [1]\n", b="\n[server]\nports = [2]\nname = 'y'\n"
        )
        self.assertEqual(
            [str(problem) for problem in merged.problems],
            [
                "b:3: server.ports: it is set already, in a:3; set it in one of the two files",
                "b:4: server.name: it is set already, in a:2; set it in one of the two files",
            ],
        )
        self.assertEqual(merged.table["server"]["name"], "x")

    def test_table_against_value(self) -> None:
        merged = self.merged(a="server = 1\n", b="[server]\nname = 'x'\n")
        self.assertIn("b:1: server: it is set already, in a:1", str(merged.problems[0]))

    def test_the_sources_are_not_changed(self) -> None:
        first: dict[str, Any] = {"listen": [{"a": 1}]}
        merged = Merged()
        merged.add(Source("a", "", first))
        merged.add(Source("b", "", {"listen": [{"a": 2}]}))
        self.assertEqual(first, {"listen": [{"a": 1}]})

    def test_spell(self) -> None:
        self.assertEqual(spell(("listen", 1, "limits", "slow")), "listen[2].limits.slow")


class ReadTests(SynchronousTestCase):
    """From the disk."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.file = self.folder / "erlmcp.toml"

    def test_dropins_in_name_order(self) -> None:
        self.file.write_text("[server]\n")
        dropins = self.folder / "erlmcp.d"
        dropins.mkdir()
        for name, number in (("20.toml", 2), ("10.toml", 1), ("ignored.txt", 3)):
            (dropins / name).write_text(f"[[listen]]\nn = {number}\n")
        merged = read(self.file)
        self.assertEqual(merged.table["listen"], [{"n": 1}, {"n": 2}])
        self.assertEqual(merged.place(("listen", 0)), (str(dropins / "10.toml"), 1))

    def test_missing(self) -> None:
        self.assertEqual(
            [str(problem) for problem in read(self.file).problems],
            [f"{self.file}: cannot be read: No such file or directory"],
        )

    def test_not_utf8(self) -> None:
        self.file.write_bytes(b"[server]\nname = '\xff'\n")
        self.assertEqual(str(read(self.file).problems[0]), f"{self.file}:2: is not UTF-8; TOML is UTF-8 text")

    def test_not_toml(self) -> None:
        self.file.write_text("[server]\nname 1\n")
        (problem,) = read(self.file).problems
        self.assertEqual(problem.line, 2)
        self.assertIn("is no TOML", problem.wrong)
        self.assertIn("at column 6", problem.wrong)

    def test_unfinished(self) -> None:
        self.file.write_text("[server]\nname = 'x")
        (problem,) = read(self.file).problems
        self.assertEqual((problem.line, "is no TOML" in problem.wrong), (2, True))

    def test_every_bad_file_is_named(self) -> None:
        self.file.write_text("=")
        dropins = self.folder / "erlmcp.d"
        dropins.mkdir()
        (dropins / "a.toml").write_text("[")
        self.assertEqual(len({problem.file for problem in read(self.file).problems}), 2)

    def test_unreadable(self) -> None:
        self.file.mkdir()
        self.assertIn("cannot be read: Is a directory", str(read(self.file).problems[0]))
        os.rmdir(self.file)  # noqa: PTH106 - what it is matters here
