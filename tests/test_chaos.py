"""A short run of `tests.chaos`, as CI has it: what is broken must heal, and no answer be wrong."""

import re
import subprocess
import sys
import tempfile
from pathlib import Path
from unittest import TestCase

from tests.chaos.__main__ import KINDS
from tests.chaos.tally import Break, Tally
from tests.chaos.world import why_not
from tests.daemon import ROOT, environment
from tests.skips import need

SECONDS = 14
SEED = 7
PATIENCE = 240
SHORT = 8
"""Kinds of breaks that a short run has."""


class ShortRunTests(TestCase):
    def test_it_heals(self) -> None:
        need(not (why := why_not()), f"a disk that can be filled: {why}")
        done = subprocess.run(
            [sys.executable, "-m", "tests.chaos", "--seconds", str(SECONDS), "--seed", str(SEED)],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
            cwd=ROOT,
            env=environment(),
        )
        said = done.stdout + done.stderr
        self.assertEqual(done.returncode, 0, said)
        print("\n" + done.stdout, end="")
        # Each kind of break was there, and has healed.
        rows = re.findall(r"^(\S.*?)  +(\d+)  +\d+ ms ", done.stdout, re.MULTILINE)
        self.assertGreaterEqual(len(rows), SHORT, said)
        self.assertEqual(len(KINDS), SHORT + 1)
        right = re.search(r"^(\d+) right answers", done.stdout, re.MULTILINE)
        assert right is not None, said
        self.assertGreater(int(right[1]), 1000)


class TallyTests(TestCase):
    """It can fail: what must not be is seen."""

    def ledger(self, *marks: str) -> Path:
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        file = folder / "ledger"
        file.write_text("".join(f"{mark}\n" for mark in marks))
        return file

    def test_executed_twice(self) -> None:
        tally = Tally()
        tally.check_ledger(self.ledger("a", "b", "a"))
        self.assertEqual(tally.wrong, ["1 calls were executed more than once: ['a']"])

    def test_answered_and_not_executed(self) -> None:
        tally = Tally(answered={"a", "c"})
        tally.check_ledger(self.ledger("a", "b"))
        self.assertEqual(tally.wrong, ["1 calls were answered and not executed: ['c']"])

    def test_what_excuses_a_loss(self) -> None:
        tally = Tally(breaks=[Break("reload", costs=False, began=1.0)])
        self.assertFalse(tally.excused(2.0))
        tally.breaks.append(Break("kill", costs=True, began=3.0, healed=4.0))
        self.assertTrue(tally.excused(2.0))
        self.assertTrue(tally.excused(4.0))
        self.assertFalse(tally.excused(5.0))
        tally.breaks.append(Break("kill", costs=True, began=6.0))
        self.assertTrue(tally.excused(7.0))
