"""The unit files: what systemd itself says of them."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from unittest import TestCase

from tests.daemon import PATIENCE, ROOT
from tests.skips import need

UNITS = ROOT / "systemd"
SERVICES = ("erlmcp.service", "erlmcp@.service")


class UnitTestCase(TestCase):
    def setUp(self) -> None:
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))

    def run_tool(self, name: str, *words: str) -> str:
        """What one of systemd's tools says; it must be content."""
        need(shutil.which(name), f"{name} is not installed")
        done = subprocess.run(
            [name, *words],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
            env={**os.environ, "SYSTEMD_COLORS": "0", "SYSTEMD_EMOJI": "0"},
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout + done.stderr

    def copied(self, name: str, drop_in: str = "") -> Path:
        """A unit, and one drop-in of it."""
        unit = self.folder / name
        # The installation that they name is not here: any program stands for it.
        text = (UNITS / name).read_text().replace("/opt/erlmcp/bin/twistd", sys.executable)
        unit.write_text(text.replace("/opt/erlmcp/bin/erlmcp", sys.executable))
        if drop_in:
            folder = self.folder / f"{name}.d"
            folder.mkdir()
            shutil.copy(UNITS / "drop-ins" / drop_in, folder)
        return unit


class VerifyTests(UnitTestCase):
    """``systemd-analyze verify``: not a word."""

    def test_units(self) -> None:
        units = [str(self.copied(name)) for name in (*SERVICES, "erlmcp.socket")]
        said = self.run_tool("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *units)
        self.assertEqual(said, "")

    def test_drop_ins(self) -> None:
        for name in sorted(path.name for path in (UNITS / "drop-ins").iterdir()):
            with self.subTest(name):
                unit = self.copied("erlmcp.service", name)
                said = self.run_tool(
                    "systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(unit)
                )
                self.assertEqual(said, "")
                shutil.rmtree(f"{unit}.d")

    def test_can_fail(self) -> None:
        unit = self.copied("erlmcp.service")
        unit.write_text(unit.read_text().replace("[Service]", "[Service]\nPrivatTmp=yes"))
        with self.assertRaises(AssertionError):
            self.assertEqual(self.run_tool("systemd-analyze", "verify", "--man=no", str(unit)), "")


class SecurityTests(UnitTestCase):
    """``systemd-analyze security``: the exposure that is promised."""

    def exposure(self, name: str, drop_in: str = "") -> float:
        unit = self.copied(name, drop_in)
        said = self.run_tool("systemd-analyze", "security", "--offline=true", "--no-pager", str(unit))
        found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said)
        assert found is not None, said
        return float(found[1])

    def stated(self, drop_in: str) -> list[float]:
        text = " ".join((UNITS / "drop-ins" / drop_in).read_text().replace("#", "").split())
        found = re.search(r"rates the unit ([0-9]+\.[0-9])(?: with this,)? instead of ([0-9]+\.[0-9])", text)
        assert found is not None, text
        return [float(found[1]), float(found[2])]

    def test_services(self) -> None:
        for name in SERVICES:
            with self.subTest(name):
                self.assertLessEqual(self.exposure(name), 2.0)

    def test_drop_ins_say_their_score(self) -> None:
        plain = self.exposure("erlmcp.service")
        for name in sorted(path.name for path in (UNITS / "drop-ins").iterdir()):
            with self.subTest(name):
                self.assertEqual(self.stated(name), [self.exposure("erlmcp.service", name), plain])
                shutil.rmtree(self.folder / "erlmcp.service.d")


class InstanceTests(TestCase):
    """``erlmcp@.service`` is the plain unit, once for each name."""

    def test_only_names_differ(self) -> None:
        plain = (UNITS / "erlmcp.service").read_text()
        instance = [
            line
            for line in (UNITS / "erlmcp@.service").read_text().splitlines()
            if "systemctl enable" not in line
        ]
        self.assertEqual(len(instance), len(plain.splitlines()))
        for one, other in zip(plain.splitlines(), instance, strict=True):
            if one != other:
                self.assertIn("%i", other)
                self.assertEqual(
                    other.replace(" (%i)", "").replace("/%i.", "/erlmcp.").replace("/%i", ""),
                    one.replace("/etc/erlmcp/keys", "/etc/erlmcp/erlmcp.keys"),
                )


class SnippetTests(UnitTestCase):
    """sysusers.d and tmpfiles.d, carried out in an empty root."""

    def test_user_and_folders(self) -> None:
        root = self.folder / "root"
        (root / "etc").mkdir(parents=True)
        need(os.geteuid() == 0, "only root may make users, even in a folder of its own")
        self.run_tool("systemd-sysusers", f"--root={root}", str(self.given(root, "sysusers.d")))
        self.assertRegex((root / "etc/passwd").read_text(), r"(?m)^erlmcp:x:\d+:\d+:erlmcp, an MCP server:")
        self.run_tool("systemd-tmpfiles", f"--root={root}", "--create", str(self.given(root, "tmpfiles.d")))
        self.assertEqual((root / "etc/erlmcp").stat().st_mode & 0o7777, 0o750)
        self.assertEqual((root / "var/lib/erlmcp").stat().st_mode & 0o7777, 0o700)
        owner = int((root / "etc/passwd").read_text().split("erlmcp:x:")[1].split(":")[0])
        self.assertEqual((root / "var/lib/erlmcp").stat().st_uid, owner)

    def given(self, root: Path, kind: str) -> str:
        folder = root / "usr/lib" / kind
        folder.mkdir(parents=True)
        shutil.copy(UNITS / kind / "erlmcp.conf", folder)
        return "erlmcp.conf"
