"""Finding plugins, and making backends of what the configuration names."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twisted.plugin import IPlugin
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from erlmcp import Provider
from erlmcp.config import ConfigurationError, backend, declared, found, providers, transports
from erlmcp.interfaces import IProvider, ITransport

ready = Provider("ready")
number = 5


@implementer(IPlugin, IProvider)
class Plugin:
    name = "plugged"

    def __init__(self, made: Any = None) -> None:
        self.made = made

    def backend(self, options: Mapping[str, Any]) -> Any:
        if "bad" in options:
            raise KeyError(options["bad"])
        return self.made or Provider(options["name"])


plugin = Plugin()


class FoundTests(SynchronousTestCase):
    """What there is."""

    def test_own_transports(self) -> None:
        self.assertLessEqual({"http", "stdio", "tcp"}, set(transports()))
        self.assertLessEqual(
            {("http", "twisted.plugins.erlmcp_transports"), ("tcp", "twisted.plugins.erlmcp_transports")},
            set(declared(ITransport)),
        )
        self.assertIsInstance(providers(), dict)

    def test_by_name(self) -> None:
        self.assertEqual(found(IProvider, lambda _: [plugin]), {"plugged": plugin})

    def test_two_of_a_name(self) -> None:
        error = self.assertRaises(ConfigurationError, found, IProvider, lambda _: [Plugin(), Plugin()])
        self.assertIn("two plugins are named 'plugged'", str(error))


class BackendTests(SynchronousTestCase):
    """`backend`."""

    def refused(self, use: str, options: Mapping[str, Any] | None = None, **plugins: Any) -> str:
        return str(self.assertRaises(ValueError, backend, use, options or {}, plugins))

    def test_ready_made(self) -> None:
        self.assertIs(backend(f"{__name__}:ready", {}, {}), ready)
        self.assertIn("takes no options", self.refused(f"{__name__}:ready", {"a": 1}))

    def test_plugin(self) -> None:
        self.assertEqual(backend("plugged", {"name": "made"}, {"plugged": plugin}).name, "made")
        self.assertEqual(backend(f"{__name__}:plugin", {"name": "made"}, {}).name, "made")

    def test_plugin_that_fails(self) -> None:
        said = self.refused("plugged", {"bad": "why"}, plugged=plugin)
        self.assertEqual(said, "the provider 'plugged' could not be made: KeyError: 'why'")
        self.assertIn("made 5, which is no IBackend", self.refused("plugged", plugged=Plugin(5)))

    def test_unknown(self) -> None:
        said = self.refused("pluged", plugged=plugin)
        self.assertIn("no provider plugin is named 'pluged'; did you mean plugged?", said)
        self.assertIn("there are none; a provider in a module is named MODULE:ATTRIBUTE", self.refused("x"))

    def test_no_such_module(self) -> None:
        self.assertIn("there is no module 'no_such_module'", self.refused("no_such_module:x"))
        self.assertIn("there is no module 'tests.nothing'", self.refused("tests.nothing.more:x"))
        self.assertIn("fails on import: ValueError", self.refused(":x"))

    def test_no_such_attribute(self) -> None:
        self.assertIn("has no attribute 'redy'; did you mean ready?", self.refused(f"{__name__}:redy"))
        self.assertTrue(self.refused(f"{__name__}:zzzzzz").endswith("has no attribute 'zzzzzz'"))
        self.assertIn("is 5, which is neither a Provider", self.refused(f"{__name__}:number"))

    def test_modules_that_fail(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        (folder / "e_needs.py").write_text("import no_such_thing\n")
        (folder / "e_broken.py").write_text("1 / 0\n")
        self.patch(sys, "path", [str(folder), *sys.path])
        self.assertIn("'e_needs' needs 'no_such_thing', which is not installed", self.refused("e_needs:x"))
        (folder / "e_exits.py").write_text("\nraise SystemExit(0)\n")
        self.assertIn("'e_broken' fails on import: ZeroDivisionError", self.refused("e_broken:x"))
        self.assertTrue(self.refused("e_broken:x").endswith("e_broken.py, line 1)"))
        self.assertIn("'e_exits' fails on import: SystemExit: 0", self.refused("e_exits:x"))
