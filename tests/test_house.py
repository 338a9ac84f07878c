"""The house rules that no linter holds: what imports what at run time, what is packaged, what is public."""

import ast
import re
import subprocess
import sys
import tomllib
from configparser import ConfigParser
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import ClassVar
from unittest import TestCase

import erlmcp
from tests.daemon import ROOT, environment

GROUND = ("erlmcp", "erlmcp.jsonrpc", "erlmcp.protocol")
FORBIDDEN = ("twisted", "zope", "asyncio", "socket", "ssl")
# What the ground floor may use; jsonschema-rs loads `socket` for itself, so these are loaded before we look.
ALLOWED = "msgspec, jsonschema_rs, cryptography.hazmat.primitives.ciphers.aead"


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _imported(module: ast.Module) -> set[str]:
    """The top-level names of all that a module imports, wherever in it."""
    names = set()
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names.add(node.module)
    return {name.partition(".")[0] for name in names}


class GroundFloorTests(TestCase):
    """The ground floor does no I/O, and importing it does not load what does."""

    def loaded(self, module: str) -> set[str]:
        code = (
            f"import sys, {ALLOWED}; before = set(sys.modules); import {module};"
            "print(*(set(sys.modules) - before))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd=ROOT,
            env=environment(),
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        return set(done.stdout.split())

    def test_ground(self) -> None:
        for module in GROUND:
            found = self.loaded(module)
            self.assertIn(module, found)
            for name in FORBIDDEN:
                self.assertNotIn(name, found, f"importing {module} loads {name}")

    def test_can_fail(self) -> None:
        """The same look at a floor that may import Twisted sees Twisted."""
        self.assertIn("twisted", self.loaded("erlmcp.interfaces"))


class PackagingTests(TestCase):
    """What must be so for the plugins to be found."""

    def test_plugins_are_a_namespace(self) -> None:
        """An ``__init__.py`` there would hide Twisted's own plugins."""
        folder = ROOT / "twisted" / "plugins"
        self.assertTrue((folder / "erlmcp_tap.py").exists())
        self.assertFalse((folder / "__init__.py").exists())
        self.assertFalse((folder.parent / "__init__.py").exists())

    def test_plugins_are_packaged(self) -> None:
        setup = ConfigParser()
        setup.read(ROOT / "setup.cfg")
        self.assertEqual(setup["options"]["packages"], "find_namespace:")
        self.assertIn("twisted.plugins", setup["options.packages.find"]["include"].split())

    def test_every_package_has_a_floor(self) -> None:
        """A package that no contract names could import anything."""
        setup = ConfigParser()
        setup.read(ROOT / "setup.cfg")
        layers = setup["importlinter:contract:floors"]["layers"].replace("|", " ").split()
        packages = {path.parent.name for path in (ROOT / "erlmcp").glob("*/__init__.py")}
        self.assertEqual(packages - {"testing"}, set(layers))

    def test_what_is_imported_is_asked_for(self) -> None:
        """What comes with something else today need not come with it tomorrow."""
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        extras = project["optional-dependencies"]
        lines = [
            *project["dependencies"],
            *(line for name in set(extras) - {"test", "lint"} for line in extras[name]),
        ]
        wanted = {_normal(re.split(r"[\[<>=!~ ;]", line, maxsplit=1)[0]) for line in lines}
        known = packages_distributions()
        ours = {"erlmcp", *sys.stdlib_module_names}
        missing = {}
        for path in (ROOT / "erlmcp").rglob("*.py"):
            for name in _imported(ast.parse(path.read_text())) - ours:
                if not {_normal(one) for one in known.get(name, ())} & wanted:
                    missing[name] = path.name
        self.assertEqual(missing, {})

    def test_version(self) -> None:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())
        self.assertEqual(erlmcp.__version__, project["project"]["version"])


class PublicNamesTests(TestCase):
    """The names that others depend on. A change here is a change for users: it needs a news fragment."""

    names: ClassVar[list[str]] = [
        "Audio",
        "Block",
        "Completion",
        "Contents",
        "Context",
        "EmbeddedResource",
        "Field",
        "Image",
        "InputDeclined",
        "Message",
        "Provider",
        "ResourceLink",
        "ResourceNotFound",
        "Text",
        "ToolError",
        "ToolResult",
        "__version__",
    ]
    interfaces: ClassVar[set[str]] = {
        "IAuthenticator",
        "IBackend",
        "IChannel",
        "IConnectionLimits",
        "IExchange",
        "IListener",
        "IMiddleware",
        "IPolicy",
        "IProvider",
        "ITransport",
    }

    def test_names(self) -> None:
        self.assertEqual(sorted(erlmcp.__all__), self.names)
        self.assertEqual(dir(erlmcp), self.names)
        for name in self.names:
            self.assertIsNotNone(getattr(erlmcp, name))

    def test_unknown_name(self) -> None:
        with self.assertRaisesRegex(AttributeError, "no attribute 'Porvider'"):
            erlmcp.Porvider  # noqa: B018 - the lookup is the test

    def test_interfaces(self) -> None:
        import erlmcp.interfaces

        self.assertLessEqual(self.interfaces, set(erlmcp.interfaces.__all__))

    def test_all_is_true(self) -> None:
        """Whatever a package says that it offers is there."""
        from importlib import import_module

        for path in sorted((ROOT / "erlmcp").glob("*/__init__.py")):
            module = import_module(f"erlmcp.{path.parent.name}")
            for name in getattr(module, "__all__", ()):
                self.assertTrue(hasattr(module, name), f"{module.__name__}.{name}")


class SizeTests(TestCase):
    """A file has one subject."""

    def test_no_file_over_500_lines(self) -> None:
        for path in sorted([*(ROOT / "erlmcp").rglob("*.py"), *(ROOT / "twisted").rglob("*.py")]):
            lines = len(Path(path).read_text().splitlines())
            self.assertLessEqual(lines, 500, f"{path.relative_to(ROOT)} has {lines} lines: two subjects?")
