"""A short run of `tests.chaos`, as CI has it: what is broken must heal, and no answer be wrong."""

import random
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from unittest import TestCase

from tests.chaos.__main__ import KINDS
from tests.chaos.run import drawn_from
from tests.chaos.tally import Break, Tally
from tests.chaos.world import why_not
from tests.daemon import ROOT, environment
from tests.skips import need

SECONDS = 14
SEED = 7
PATIENCE = 480
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
        # Each kind of break was there by itself, and has healed.
        rows = re.findall(r"^(\S.*?)  +\d+  +\d+ ms ", done.stdout, re.MULTILINE)
        alone = [row for row in rows if not row.endswith("amid another")]
        self.assertGreaterEqual(len(alone), SHORT, said)
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

    def test_an_upstream_excuses_calls_to_it_alone(self) -> None:
        away = Break("upstream", costs=True, began=3.0, far=True)
        tally = Tally(breaks=[away])
        self.assertTrue(tally.excused(7.0, far=True))
        self.assertFalse(tally.excused(7.0))
        self.assertTrue(tally.alone(away))
        reload = Break("reload", costs=False, began=4.0)
        tally.breaks.append(reload)
        self.assertFalse(tally.alone(away))
        reload.healed = 5.0
        self.assertTrue(tally.alone(away))


class DrawnTests(TestCase):
    """What is broken next."""

    def test_never_the_same_twice_at_once(self) -> None:
        for seed in range(300):
            waiting: list[str] = []
            chance = random.Random(seed)
            drawn = [drawn_from(waiting, ["a", "b", "c"], chance) for _ in range(20)]
            self.assertTrue(all(len(now) == len(set(now)) for now in drawn), drawn)
            counts = Counter(one for now in drawn for one in now)
            self.assertLessEqual(max(counts.values()) - min(counts.values()), 2, drawn)

    def test_one_kind(self) -> None:
        chance = random.Random(1)
        waiting: list[str] = []
        self.assertEqual([drawn_from(waiting, ["a"], chance) for _ in range(20)], [["a"]] * 20)
