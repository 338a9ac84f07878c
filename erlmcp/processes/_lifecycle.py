"""The life of a child process, as a table: what follows from what. No effects; drawn in docs/machines/child-process.md.

Every state but the first, RUNNING and GONE has a limit of time, whose end is the input `DUE`.
"""

from enum import Enum, auto
from typing import Final


class State(Enum):
    """Where a child is in its life."""

    NEW = auto()
    STARTING = auto()  # the launcher runs, and has not said yet that the command does
    RUNNING = auto()
    CLOSING = auto()  # its standard input is closed: it should end by itself
    TERMINATING = auto()  # all of it has had SIGTERM
    KILLING = auto()  # all of it is being killed
    GONE = auto()  # all of it has ended, and has been reaped


class Input(Enum):
    """What may happen."""

    LAUNCH = auto()
    STARTED = auto()
    REFUSED = auto()  # the command could not be run
    EXITED = auto()  # the command has ended; what it started may be there still
    END = auto()  # somebody wants it to end
    DUE = auto()  # the state's time is over
    GONE = auto()  # the launcher has ended: there is nothing left


class Effect(Enum):
    """What is to be done."""

    SPAWN = auto()
    SAY_STARTED = auto()
    SAY_REFUSED = auto()
    SAY_EXITED = auto()
    CLOSE_INPUT = auto()
    TERMINATE = auto()
    KILL = auto()
    KILL_LAUNCHER = auto()
    SAY_GONE = auto()


Step = tuple[State, tuple[Effect, ...]]

TABLE: Final[dict[tuple[State, Input], Step]] = {
    (State.NEW, Input.LAUNCH): (State.STARTING, (Effect.SPAWN,)),
    (State.NEW, Input.END): (State.GONE, (Effect.SAY_GONE,)),
    (State.STARTING, Input.STARTED): (State.RUNNING, (Effect.SAY_STARTED,)),
    (State.STARTING, Input.REFUSED): (State.TERMINATING, (Effect.SAY_REFUSED,)),
    (State.STARTING, Input.END): (State.KILLING, (Effect.SAY_REFUSED, Effect.KILL)),
    (State.STARTING, Input.DUE): (State.KILLING, (Effect.SAY_REFUSED, Effect.KILL)),
    (State.STARTING, Input.GONE): (State.GONE, (Effect.SAY_REFUSED, Effect.SAY_GONE)),
    (State.RUNNING, Input.END): (State.CLOSING, (Effect.CLOSE_INPUT,)),
    (State.RUNNING, Input.EXITED): (State.TERMINATING, (Effect.SAY_EXITED, Effect.TERMINATE)),
    (State.RUNNING, Input.GONE): (State.GONE, (Effect.SAY_EXITED, Effect.SAY_GONE)),
    (State.CLOSING, Input.EXITED): (State.TERMINATING, (Effect.SAY_EXITED, Effect.TERMINATE)),
    (State.CLOSING, Input.DUE): (State.TERMINATING, (Effect.TERMINATE,)),
    (State.CLOSING, Input.GONE): (State.GONE, (Effect.SAY_EXITED, Effect.SAY_GONE)),
    (State.TERMINATING, Input.EXITED): (State.TERMINATING, (Effect.SAY_EXITED,)),
    (State.TERMINATING, Input.DUE): (State.KILLING, (Effect.KILL,)),
    (State.TERMINATING, Input.GONE): (State.GONE, (Effect.SAY_EXITED, Effect.SAY_GONE)),
    (State.KILLING, Input.EXITED): (State.KILLING, (Effect.SAY_EXITED,)),
    (State.KILLING, Input.DUE): (State.KILLING, (Effect.KILL_LAUNCHER,)),
    (State.KILLING, Input.GONE): (State.GONE, (Effect.SAY_EXITED, Effect.SAY_GONE)),
}
"""What each input leads to. A pair that is not here changes nothing."""


def step(state: State, happened: Input) -> Step:
    """The next state, and what is to be done in this order."""
    return TABLE.get((state, happened), (state, ()))
