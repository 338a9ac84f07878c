"""How many calls may be tried again: a share of all calls, so that retries never become the load. Pure."""

from erlmcp.governor._window import Window


class RetryBudget:
    """Bounds the retries towards one upstream.

    In any `span` there are at most `share` times as many retries as there were first tries, and `least` more: without
    these an upstream that is called twice a minute could never be asked again.

    Args:
        share: retries for each first try.
        least: retries that are always there, in each `span`.
        span: seconds.

    Attributes:
        refused: how often `spend` has said no.

    Raises:
        ValueError: a bound makes no sense.
    """

    __slots__ = ("_least", "_share", "_window", "refused")

    def __init__(self, *, share: float = 0.1, least: int = 10, span: float = 10.0) -> None:
        if not 0 <= share <= 1 or least < 0 or not span > 0:
            raise ValueError(
                "a retry budget has a share between 0 and 1, least from 0 on, and a span above 0"
            )
        self._share = share
        self._least = least
        self._window = Window(span)
        self.refused = 0

    def called(self, now: float) -> None:
        """Count a first try."""
        self._window.count(now, 1, 0)

    def spend(self, now: float) -> bool:
        """Whether a call may be tried again now; if so, that is counted."""
        window = self._window
        window.advance(now)
        if window.second + 1 > window.first * self._share + self._least:
            self.refused += 1
            return False
        window.count(now, 0, 1)
        return True
