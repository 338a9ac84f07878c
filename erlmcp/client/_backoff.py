"""How long to wait before trying again: doubling, with jitter, bounded."""

import random
from collections.abc import Callable

from msgspec import Struct


class Backoff(Struct, frozen=True):
    """Delays between attempts: `first` seconds, times `factor` each time, `longest` at most, each less up to `jitter`.

    Source: "Exponential Backoff And Jitter" (equal jitter).
    """

    first: float = 1.0
    factor: float = 2.0
    longest: float = 30.0
    jitter: float = 0.5

    def delay(self, failures: int, chance: Callable[[], float] = random.random) -> float:
        """Seconds to wait after so many failures in a row; 0 after none."""
        if failures < 1:
            return 0.0
        # The exponent is bounded: a server that is away for a week must not overflow a float.
        whole = min(self.longest, self.first * self.factor ** min(failures - 1, 60))
        return whole * (1 - self.jitter * chance())
