"""Figures, ratios and the budget that they are held against."""

from statistics import median
from typing import NamedTuple


class Figure(NamedTuple):
    """What several runs of one measurement gave."""

    runs: tuple[float, ...]
    unit: str

    @property
    def middle(self) -> float:
        """The median."""
        return median(self.runs)

    def __str__(self) -> str:
        low, high = min(self.runs), max(self.runs)
        return f"{_short(self.middle)} {self.unit} ({_short(low)} – {_short(high)})"


class Row(NamedTuple):
    """One line of the budget: what was measured, what it is held against, and whether it holds."""

    path: str
    ours: str
    against: str
    ratio: str
    at_least: str
    target: str
    verdict: str


def verdict(*, at_least: bool, target: bool) -> str:
    """How a figure stands: ``MISSED``, ``at least``, or ``target``."""
    if not at_least:
        return "MISSED"
    return "target" if target else "at least"


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A Markdown table with aligned columns."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]

    def line(cells: tuple[str, ...]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"

    rule = "| " + " | ".join("-" * width for width in widths) + " |"
    return "\n".join([line(head), rule, *map(line, rows)])


def _short(value: float) -> str:
    if value >= 1000:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.0f}" if value >= 100 else f"{value:.2f}"
