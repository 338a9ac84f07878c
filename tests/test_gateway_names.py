"""Names that upstreams' tools, prompts and resources get: there and back, hidden, renamed, and never two for one."""

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.gateway import Naming, naming_problems
from erlmcp.gateway._names import Override

examples = settings(deadline=None, max_examples=150)

UPSTREAMS = st.from_regex(r"[a-z][a-z0-9-]{0,6}", fullmatch=True).filter(lambda name: name != "ui")
# Names that look like prefixes and renamed names of each other are the ones that may go wrong.
OWN = st.one_of(
    st.sampled_from(["read", "write", "a.read", "a.", ".", "b", "b.c", "new", "a-b.x"]), st.text(min_size=1)
)
URIS = st.one_of(
    st.sampled_from(
        [
            "file:///etc/hosts",
            "ui://app/main.html",
            "ui://",
            "UI://x",
            "config",
            "a:b",
            "a+a:b",
            "//x",
            "",
            "+a:b",
            ":",
        ]
    ),
    st.text(),
)
GIVEN = st.from_regex(r"[a-c.]{1,3}|new|read", fullmatch=True)
MAPS = st.dictionaries(OWN, GIVEN, max_size=4).filter(lambda names: len(set(names.values())) == len(names))
GLOBS = st.lists(st.sampled_from(["*", "r*", "a.*", "[ab]*", "file:*", "*:b", "?"]), max_size=3)
NAMINGS = st.builds(
    lambda upstream, mode, separator, names, allow, deny: Naming(
        upstream, mode, separator=separator, names=names, allow=allow, deny=deny
    ),
    UPSTREAMS,
    st.sampled_from(["prefix", "none", "map"]),
    st.sampled_from([".", "_", "-", "__"]),
    MAPS,
    GLOBS.map(lambda globs: globs or ["*"]),
    GLOBS,
)


class ThereAndBackTests(SynchronousTestCase):
    @given(NAMINGS, st.lists(OWN, unique=True, max_size=8))
    @examples
    def test_names(self, naming: Naming, names: list[str]) -> None:
        """What is advertised leads back to what it is of, and to nothing else."""
        for there, back in ((naming.tool, naming.own_tool), (naming.prompt, naming.own_prompt)):
            advertised = [(own, name) for own in [*names, *naming.names] if (name := there(own)) is not None]
            for own, name in advertised:
                self.assertEqual(back(name), own)
            of = dict(advertised)
            self.assertEqual(len(set(of.values())), len(of))

    @given(NAMINGS, OWN)
    @examples
    def test_whatever_is_found_is_advertised_so(self, naming: Naming, name: str) -> None:
        own = naming.own_tool(name)
        if own is not None:
            self.assertEqual(naming.tool(own), name)

    @given(NAMINGS, st.lists(URIS, unique=True, max_size=8))
    @examples
    def test_uris(self, naming: Naming, uris: list[str]) -> None:
        for own in uris:
            expected = own if naming.shows_uri(own) else None
            self.assertEqual(naming.own_uri(naming.uri(own)), expected)
            expected = own if naming.shows_template(own) else None
            self.assertEqual(naming.own_template(naming.template(own)), expected)
        self.assertEqual(len({naming.uri(own) for own in uris}), len(uris))

    @given(UPSTREAMS, UPSTREAMS, URIS, URIS)
    @examples
    def test_no_two_upstreams_share_a_uri(self, one: str, other: str, first: str, second: str) -> None:
        if one != other:
            naming = Naming(one)
            self.assertIsNone(Naming(other).own_uri(naming.uri(first)))
            self.assertNotEqual(naming.uri(first), Naming(other).uri(second))

    @given(UPSTREAMS, UPSTREAMS, OWN, OWN, st.sampled_from([".", "-"]), st.sampled_from([".", "-"]), MAPS)
    @examples
    def test_no_two_upstreams_share_a_name_unless_that_is_said(
        self, one: str, other: str, first: str, second: str, here: str, there: str, names: dict[str, str]
    ) -> None:
        namings = [Naming(one, separator=here, names=names), Naming(other, separator=there)]
        if not naming_problems(namings):
            self.assertNotEqual(namings[0].tool(first) or 1, namings[1].tool(second) or 2)


class PrefixTests(SynchronousTestCase):
    def test_names(self) -> None:
        naming = Naming("files")
        self.assertEqual(naming.tool("read"), "files.read")
        self.assertEqual(naming.prompt("review"), "files.review")
        self.assertIsNone(naming.own_tool("read"))
        self.assertIsNone(naming.own_prompt("other.review"))
        self.assertEqual(Naming("files", separator="__").tool("read"), "files__read")

    def test_uris(self) -> None:
        naming = Naming("files")
        self.assertTrue(naming.changes_uris)
        for own, advertised in (
            ("file:///etc/hosts", "files+file:///etc/hosts"),
            ("file:///{+path}", "files+file:///{+path}"),
            ("ui://app/main.html", "ui://files/app/main.html"),
            ("{scheme}://x", "files:{scheme}://x"),
            ("notes", "files:notes"),
        ):
            self.assertEqual(naming.uri(own), advertised)
        # what a client makes of a template that begins with a variable
        self.assertEqual(naming.own_uri("files:http://x"), "http://x")
        for foreign in ("file:///x", "files+x", "files", "files-2+file:x", "ui://other/x", "files+ui://x"):
            self.assertIsNone(naming.own_uri(foreign))

    def test_none(self) -> None:
        naming = Naming("files", "none")
        self.assertFalse(naming.changes_uris)
        self.assertEqual(naming.tool("read"), "read")
        self.assertEqual(naming.uri("file:///x"), "file:///x")
        self.assertEqual(naming.own_uri("file:///x"), "file:///x")

    def test_map(self) -> None:
        """What is not in the map is not there; URIs have no map."""
        naming = Naming("files", "map", names={"read": "open_file"})
        self.assertEqual(naming.tool("read"), "open_file")
        self.assertEqual(naming.own_tool("open_file"), "read")
        self.assertIsNone(naming.tool("write"))
        self.assertIsNone(naming.own_tool("files.write"))
        self.assertIsNone(naming.taken("write"))
        self.assertEqual(naming.uri("file:///x"), "files+file:///x")

    def test_renamed(self) -> None:
        naming = Naming("files", names={"read": "cat", "copy": "files.write"})
        self.assertEqual(naming.tool("read"), "cat")
        self.assertIsNone(naming.own_tool("files.read"))
        # the other that would be called so is hidden, and that is said
        self.assertIsNone(naming.tool("write"))
        self.assertEqual(naming.taken("write"), "copy")
        self.assertIsNone(naming.taken("read"))
        self.assertEqual(naming.own_tool("files.write"), "copy")


class HiddenTests(SynchronousTestCase):
    def test_allow_and_deny(self) -> None:
        naming = Naming("files", allow=["read*", "file:///srv/*"], deny=["*_secret"])
        self.assertEqual(naming.tool("read_x"), "files.read_x")
        for hidden in ("write", "read_secret"):
            self.assertIsNone(naming.tool(hidden))
            self.assertIsNone(naming.prompt(hidden))
            self.assertIsNone(naming.own_tool(f"files.{hidden}"))
        self.assertTrue(naming.shows_uri("file:///srv/a"))
        self.assertFalse(naming.shows_uri("file:///etc/passwd"))
        self.assertIsNone(naming.own_uri("files+file:///etc/passwd"))

    def test_by_kind(self) -> None:
        naming = Naming("files", allow={"tools": ["read"]}, deny={"resources": ["file:///etc/*"]})
        self.assertIsNone(naming.tool("write"))
        self.assertEqual(naming.prompt("write"), "files.write")
        self.assertFalse(naming.shows_uri("file:///etc/x"))
        self.assertTrue(naming.shows_uri("file:///srv/x"))
        self.assertIsNone(Naming("files", allow=[]).tool("x"))
        self.assertIsNone(Naming("files", allow=[], deny=["x"]).tool("y"))

    def test_other_spellings_do_not_get_past(self) -> None:
        naming = Naming("files", deny=["file:///etc/*"])
        for uri in (
            "file:///%65tc/hosts",
            "FILE:///etc/hosts",
            "file:///srv/../etc/hosts",
            "file:///srv/%2e%2e/etc/hosts",
            "file:///./etc/hosts",
            "file:///srv/..",
            "file:///srv/%2e%2e%2fetc",
        ):
            self.assertIsNone(naming.own_uri(f"files+{uri}"), uri)
        self.assertEqual(naming.own_uri("files+file:///srv/a..b/%41"), "file:///srv/a..b/%41")
        # nobody said which: nothing is held against a path
        self.assertTrue(Naming("files").shows_uri("file:///srv/../x"))


class ConfigurationTests(SynchronousTestCase):
    def wrong(self, said: str, upstream: str = "files", mode: str = "prefix", **keys: object) -> None:
        error = self.assertRaises(ValueError, Naming, upstream, mode, **keys)
        self.assertIn(said, str(error))

    def test_wrong(self) -> None:
        for name in ("Files", "", "1a", "a_b", "a.b", "a" * 33):
            self.wrong("names no upstream", name)
        self.wrong("MCP Apps", "ui")
        self.wrong("names: 'all' is none of", mode="all")
        for separator in ("", "/", "a", "....."):
            self.wrong("separator: ", separator=separator)
        self.wrong("rename.read: 'a b' is no name", names={"read": "a b"})
        self.wrong("names.read: '' is no name", mode="map", names={"read": ""})
        self.wrong("rename: a name is empty", names={"": "x"})
        self.wrong("'a' and 'b' are both called 'x'", names={"a": "x", "b": "x"})
        self.wrong("allow: 'a*' is one glob", allow="a*")
        self.wrong("deny: 'tool' is none of tools", deny={"tool": []})
        self.wrong("describe.read: 'name' is unknown", describe={"read": {"name": "x"}})
        self.wrong("describe.read.title: 1 is no text", describe={"read": {"title": 1}})
        said = Override(title="T")
        self.assertIs(Naming("a", describe={"x": said}).describe["x"], said)

    def test_between_upstreams(self) -> None:
        self.assertEqual(naming_problems([Naming("a"), Naming("b"), Naming("c", "none")]), [])
        for first, second, said in (
            (Naming("a"), Naming("a"), "two upstreams are called 'a'"),
            (
                Naming("a", names={"x": "go"}),
                Naming("b", "map", names={"y": "go"}),
                "both have a name that is",
            ),
            (
                Naming("a", separator="-"),
                Naming("a-b", separator="-"),
                "what begins with 'a-b-' may be of either",
            ),
            (
                Naming("a-b", separator="-"),
                Naming("a", separator="-"),
                "what begins with 'a-b-' may be of either",
            ),
            (Naming("a"), Naming("b", names={"x": "a.x"}), "'b' renames 'x' to 'a.x', which begins as"),
            (Naming("a", "none", names={"x": "b.x"}), Naming("b"), "'a' renames 'x' to 'b.x'"),
        ):
            problems = naming_problems([first, second])
            self.assertEqual(len(problems), 1, problems)
            self.assertIn(said, problems[0])


class RememberedTests(SynchronousTestCase):
    def test_what_clients_invent_is_not_kept(self) -> None:
        """Neither a name of any length, nor any number of them."""
        naming = Naming("far")
        for number in range(5000):
            self.assertEqual(naming.own_tool(f"far.{number}"), str(number))
            self.assertEqual(naming.own_tool(f"far.{number}" + "x" * 300), f"{number}" + "x" * 300)
        kept = naming._tools
        self.assertLessEqual(len(kept), 4096)
        self.assertLessEqual(max(map(len, kept)), 256)
