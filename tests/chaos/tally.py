"""What became of the calls, what was broken when, and how long it took to heal."""

import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

_SHOWN = 20


@dataclass
class Break:
    """Something that is broken for a while.

    Attributes:
        kind: a name for the table.
        costs: whether a call without a proxy may be lost by it.
        began, healed: on the monotonic clock; `healed` is 0 while it is not.
        parts: after how many seconds it closes lines; 0 if it does not.
        far: whether it costs calls to the upstream alone.
    """

    kind: str
    costs: bool
    began: float
    healed: float = 0.0
    parts: float = 0.0
    far: bool = False


@dataclass
class Tally:
    """Everything that was seen.

    Attributes:
        right: answers, by the kind of the caller.
        lost: calls that had no answer and may have none, by reason.
        wrong: what must not be.
        answered: the marks of right answers.
        breaks: what was broken.
        promised: by `kind` what the table of failures promises.
        log: what the daemon has said.
        together: whether two things are broken at once, so that one may have to wait for the other.
    """

    right: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    answered: set[str] = field(default_factory=set)
    breaks: list[Break] = field(default_factory=list)
    promised: dict[str, str] = field(default_factory=dict)
    log: str = ""
    together: bool = False

    def begin(self, kind: str, promised: str, *, costs: bool = False, far: bool = False) -> Break:
        """Something is broken now."""
        if self.together:
            kind, promised = f"{kind}; amid another", "-"
        self.promised[kind] = promised
        found = Break(kind, costs, time.monotonic(), far=far)
        self.breaks.append(found)
        return found

    def excused(self, since: float, *, far: bool = False) -> bool:
        """Whether a call that began then, to the upstream if `far`, may have been lost by something that costs such."""
        return any(
            one.costs and (far or not one.far) and (not one.healed or one.healed >= since)
            for one in self.breaks
        )

    def alone(self, one: Break) -> bool:
        """Whether all else has healed."""
        return all(other.healed for other in self.breaks if other is not one)

    def parted(self, since: float) -> bool:
        """Whether a line that such a call was on may have been closed: a reload lets them be until its drain ends."""
        now = time.monotonic()
        return any(
            one.parts
            and one.began + one.parts <= now
            and (not one.healed or since <= one.healed + 2 * one.parts + 1)
            for one in self.breaks
        )

    def check_ledger(self, ledger: Path) -> None:
        """Nothing was executed twice, and whatever was answered was executed."""
        done = Counter(ledger.read_text().split())
        twice = [mark for mark, count in done.items() if count > 1]
        never = sorted(self.answered - done.keys())
        if twice:
            self.wrong.append(f"{len(twice)} calls were executed more than once: {twice[:5]}")
        if never:
            self.wrong.append(f"{len(never)} calls were answered and not executed: {never[:5]}")

    def table(self) -> str:
        """How long it took to heal, beside what is promised."""
        rows = [("broken", "times", "healed in, median", "longest", "promised")]
        for kind, promised in self.promised.items():
            took = [one.healed - one.began for one in self.breaks if one.kind == kind and one.healed]
            middle = (f"{median(took) * 1000:.0f} ms", f"{max(took) * 1000:.0f} ms") if took else ("-", "-")
            rows.append((kind, str(len(took)), *middle, promised))
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        )

    def summary(self) -> str:
        """The calls, and what is wrong."""
        lines = [f"{self.right.total()} right answers: " + _listed(self.right)]
        if self.lost:
            lines.append(
                f"{self.lost.total()} calls without an answer, each for a reason: " + _listed(self.lost)
            )
        lines.append(f"{len(self.wrong)} wrong")
        lines += [f"  {what}" for what in self.wrong[:_SHOWN]]
        return "\n".join(lines)


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {what}" for what, count in counts.most_common(_SHOWN))
