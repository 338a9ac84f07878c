"""The one way a test may say that what it needs is not here."""

import os
import shutil
import subprocess
from pathlib import Path
from unittest import SkipTest

ROOT = Path(__file__).resolve().parent.parent
SCHEMAS = ROOT.parent / "shared" / "schema"


def need(present: object, what: str, tool: str = "") -> None:
    """Skip the running test, by name, unless `present` is true.

    CI sets ``ERLMCP_NO_SKIPS=1``: there, something that is missing is a failure, but a `tool` of the system that CI
    has found out it cannot install, and so has named in ``ERLMCP_MISSING``.

    Raises:
        SkipTest: outside CI.
        AssertionError: in CI.
    """
    if present:
        return
    excused = bool(tool) and tool in os.environ.get("ERLMCP_MISSING", "").split()
    if os.environ.get("ERLMCP_NO_SKIPS", "") not in {"", "0"} and not excused:
        raise AssertionError(f"skipped, and CI allows no skips: {what}")
    raise SkipTest(what)


def need_bwrap() -> None:
    """Skip the running test unless there is a bubblewrap, and one that may make namespaces here."""
    program = shutil.which("bwrap")
    need(program, "bwrap is not installed", "bwrap")
    trial = ["bwrap", "--ro-bind", "/", "/", "--proc", "/proc", "--unshare-all", "true"]
    works = subprocess.run(trial, capture_output=True, timeout=30, check=False).returncode == 0
    need(works, "bwrap may make no namespaces here", "bwrap")
