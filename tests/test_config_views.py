"""``[[server_view]]`` and who shows it: what is right, and every mistake with its place."""

from typing import Any

import msgspec

from erlmcp.config import ListenSettings, ViewSettings, views_by_path
from tests import test_config_settings as base
from tests.test_config_settings import PROVIDER, ConfigTestCase, Transport


class PathOptions(msgspec.Struct, frozen=True):
    path: str = "/mcp"
    views: dict[str, str] = {}


class ViewTests(ConfigTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.patch(base, "TRANSPORTS", {**base.TRANSPORTS, "http": Transport(PathOptions), "bare": Bare()})

    def view(self, text: str) -> ViewSettings:
        [view] = self.load(f"{PROVIDER}[[server_view]]\n{text}").views
        return view

    def test_defaults(self) -> None:
        self.assertEqual(self.view("name = 'a'"), ViewSettings(name="a", key="server_view[1]"))

    def test_all_keys(self) -> None:
        view = self.view(
            "name = 'team-a'\ntitle = 'T'\ninstructions = 'I'\nbackends = ['x', 'y']\nallow = ['x.*']\n"
            "deny = ['x.y']\nexpose = 'search'\n"
        )
        self.assertEqual((view.backends, view.allow, view.deny), (("x", "y"), ("x.*",), ("x.y",)))
        self.assertEqual((view.title, view.instructions, view.expose), ("T", "I", "search"))

    def test_shown(self) -> None:
        text = (
            f"{PROVIDER}[[server_view]]\nname = 'a'\n[[listen]]\ntransport = 'bare'\nview = 'a'\nexpose = 'search'\n"
            "[[listen]]\ntransport = 'http'\nviews = { '/a' = 'a' }\n"
        )
        first, second = self.load(text).listen
        self.assertEqual((first.view, first.expose, views_by_path(first)), ("a", "search", {}))
        self.assertEqual((second.view, second.expose, views_by_path(second)), (None, None, {"/a": "a"}))
        self.assertEqual(views_by_path(ListenSettings(name="x", transport="y")), {})

    def test_wrong(self) -> None:
        text = (
            f"{PROVIDER}"
            "[[server_view]]\nname = 'a b'\n"  # line 3
            "[[server_view]]\nname = 'team-a'\nbackends = []\nexpose = 'searched'\nallowed = ['*']\n"  # 5
            "[[server_view]]\ntitle = 'x'\n"  # 10
            "[[server_view]]\nname = 'team-b'\n"
            "[[server_view]]\nname = 'team-b'\n"  # 14
        )
        keys = "allow, backends, deny, expose, instructions, name, title"
        found = self.problems(text)
        self.assertTrue(found[0].startswith("4: server_view[1].name: 'a b' will not do: "), found[0])
        self.assertTrue(found[1].startswith("7: server_view[2].backends: "), found[1])
        self.assertEqual(
            found[2:],
            [
                "8: server_view[2].expose: 'searched' will not do: it must be 'all' or 'search'; the default is 'all'",
                f"9: server_view[2].allowed: unknown key; did you mean allow? (known are {keys})",
                "10: server_view[3].name: is missing; every [[server_view]] needs it",
                "15: server_view[5].name: server_view[4] is named 'team-b' too; names are unique",
            ],
        )

    def test_wrong_names(self) -> None:
        """A view with a mistake of its own is none that is missing."""
        text = (
            f"{PROVIDER}[[server_view]]\nname = 'team-a'\nx = 1\n[[server_view]]\nname = 'team-b'\n"
            "[[listen]]\ntransport = 'bare'\nview = 'teem-a'\n"
            "[[listen]]\ntransport = 'http'\nview = 'team-a'\nviews = { '/a' = 'team-b', '/c' = 'team-c' }\n"
        )
        _, *found = self.problems(text)
        near = "; did you mean team-{}? (known are team-a, team-b)".format
        first = f"10: listen[1].view: no [[server_view]] is named 'teem-a'{near('a')}"
        second = f"14: listen[2].views./c: no [[server_view]] is named 'team-c'{near('b')}"
        self.assertEqual(found, [first, second])

    def test_none_at_all(self) -> None:
        [found] = self.problems(f"{PROVIDER}[[listen]]\ntransport = 'bare'\nview = 'a'\n")
        self.assertEqual(
            found, "5: listen[1].view: no [[server_view]] is named 'a'; there is no [[server_view]] at all"
        )

    def test_without_paths(self) -> None:
        """A transport that has no paths does not take them silently."""
        [found] = self.problems(
            f"{PROVIDER}[[server_view]]\nname = 'a'\n[[listen]]\ntransport = 'bare'\nviews = {{ '/a' = 'a' }}\n"
        )
        self.assertTrue(found.startswith("7: listen[1].views: unknown key; did you mean view?"), found)

    def test_no_array(self) -> None:
        [found] = self.problems(f"{PROVIDER}[server_view]\nname = 'a'\n")
        self.assertIn("it is an array of tables: [[server_view]]", found)


class Nothing(msgspec.Struct, frozen=True):
    """No options."""


class Bare:
    options: Any = Nothing
