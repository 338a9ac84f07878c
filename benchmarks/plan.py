"""How the measurements are made, and what they have found so far."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks.report import Figure, Row, verdict
from benchmarks.servers import Fleet


@dataclass
class Plan:
    """How long and how often, and what has been found so far.

    Attributes:
        seconds: length of one run.
        runs: how often each measurement is repeated, alternating between the servers.
        idle: idle connections opened per kind.
        peers: the peers measured over HTTP and stdio.
        figures: section -> name -> runs.
        rows: the budget's lines.
    """

    fleet: Fleet
    seconds: float
    runs: int
    idle: int
    peers: tuple[str, ...]
    say: Callable[[str], None]
    figures: dict[str, dict[str, Figure]] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)

    def note(self, section: str, unit: str, found: dict[str, list[float]]) -> None:
        """Keep a section's figures."""
        kept = self.figures.setdefault(section, {})
        for name, runs in found.items():
            kept[name] = Figure(tuple(runs), unit)
            self.say(f"  {section:<32} {name:<20} {kept[name]}")

    def hold(
        self,
        path: str,
        ours: Figure,
        theirs: Figure,
        peer: str,
        *,
        at_least: float,
        target: float | None = None,
        figure: float | None = None,
    ) -> None:
        """Add a line: our rate against a peer's, how many times it at least, and the target."""
        ratios = sorted(mine / other for mine, other in zip(ours.runs, theirs.runs, strict=False))
        middle = statistics.median(ratios)
        places = 1 if at_least >= 1 else 2
        reached = (target is None or middle >= target) and (figure is None or ours.middle >= figure)
        wanted = [f"{figure:,.0f}/s".replace(",", " ")] if figure else []
        wanted += [f"{target:g}x"] if target else []
        self.rows.append(
            Row(
                path,
                str(ours),
                f"{peer} {theirs}",
                f"{middle:.{places}f}x ({ratios[0]:.{places}f} – {ratios[-1]:.{places}f})",
                f"{at_least:g}x",
                ", ".join(wanted),
                verdict(at_least=middle >= at_least, target=reached),
            )
        )

    def ceiling(self, path: str, ours: Figure, target: float, at_least: float, against: str = "") -> None:
        """Add a line for a figure that must stay below something."""
        self.rows.append(
            Row(
                path,
                str(ours),
                against,
                f"{ours.middle / at_least:.2f} of it",
                f"<= {at_least:.4g} {ours.unit}",
                f"<= {target:.4g} {ours.unit}",
                verdict(at_least=ours.middle <= at_least, target=ours.middle <= target),
            )
        )
