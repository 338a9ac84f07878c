"""How a child process has ended, in words."""

import signal
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Exit:
    """How a child has ended.

    Attributes:
        code: its exit code; None if a signal ended it, or if nobody can know.
        signal: the number of the signal that ended it, if one did.
        tail: the last lines that it wrote to its standard error, without control characters.
    """

    code: int | None
    signal: int | None = None
    tail: str = ""

    @classmethod
    def from_status(cls, status: int, tail: str = "", *, wrapped: bool = False) -> "Exit":
        """An exit from a status as `os.waitstatus_to_exitcode` gives it.

        Args:
            status: the exit code, or the number of a signal as a negative number.
            tail: the last lines on standard error.
            wrapped: whether a program stood between that says ``128 + n`` for signal ``n``.
        """
        if status < 0:
            return cls(None, -status, tail)
        if wrapped and status > 128 and status - 128 in signal.valid_signals():
            return cls(None, status - 128, tail)
        return cls(status, None, tail)

    @property
    def clean(self) -> bool:
        """Whether it has ended by itself, with exit code 0."""
        return self.code == 0

    def __str__(self) -> str:
        """Such as ``exit code 3`` or ``signal SIGSEGV``."""
        if self.signal is not None:
            try:
                return f"signal {signal.Signals(self.signal).name}"
            except ValueError:
                return f"signal {self.signal}"
        return "an unknown end" if self.code is None else f"exit code {self.code}"

    def describe(self) -> str:
        """The end and, if there are any, the last lines of standard error."""
        return f"{self}; its last words:\n{self.tail}" if self.tail else str(self)
