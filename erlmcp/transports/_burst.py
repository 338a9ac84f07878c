"""Answers that come in one go leave in one go.

Where one read brings many results, as from an upstream that many clients call through this gateway, each answer that is
sent as it is found wakes its peer, who goes back to sleep before the next: waking costs more than sending. Sent one
right after the other, they find the peer awake.
"""

from collections import deque
from collections.abc import Callable
from typing import Self

from twisted.logger import Logger

log = Logger()

MOST = 64
"""Pieces that are held back at once."""


class Burst:
    """A stretch of work, ``with burst:``, at whose end that is sent which was written within it. Stretches may nest.

    Attributes:
        depth: how many stretches there are, one within the other; 0 for none.
    """

    __slots__ = ("_held", "depth")

    def __init__(self) -> None:
        self.depth = 0
        self._held: deque[tuple[Callable[[bytes], None], bytes]] = deque()

    def __enter__(self) -> Self:
        self.depth += 1
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if self.depth == 1:
                self.flush()
        finally:
            self.depth -= 1

    def hold(self, write: Callable[[bytes], None], data: bytes) -> None:
        """Have ``write(data)`` called at the end, or when there is enough to send; in the order of these calls.

        Whoever writes has to ask `depth` first: nothing may be written past what is held.
        """
        self._held.append((write, data))
        if len(self._held) >= MOST:
            self.flush()

    def flush(self) -> None:
        """Send what is held now: for who does something that has to come after it, such as to close."""
        while self._held:
            write, data = self._held.popleft()
            try:
                write(data)
            except Exception:  # noqa: BLE001 - one connection's failure is not another's
                log.failure("what was held back could not be written")


burst = Burst()
"""The one of this process: all its connections are the reactor's."""
