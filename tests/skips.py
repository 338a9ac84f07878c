"""The one way a test may say that what it needs is not here."""

import os
from pathlib import Path
from unittest import SkipTest

ROOT = Path(__file__).resolve().parent.parent
SCHEMAS = ROOT.parent / "shared" / "schema"


def need(present: object, what: str) -> None:
    """Skip the running test, by name, unless `present` is true.

    CI sets ``ERLMCP_NO_SKIPS=1``: there, something that is missing is a failure.

    Raises:
        SkipTest: outside CI.
        AssertionError: in CI.
    """
    if present:
        return
    if os.environ.get("ERLMCP_NO_SKIPS", "") not in {"", "0"}:
        raise AssertionError(f"skipped, and CI allows no skips: {what}")
    raise SkipTest(what)
