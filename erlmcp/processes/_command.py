"""What is to be run: a command, where, with which environment, and how confined."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from erlmcp.processes._confinement import UNCONFINED, Confinement

INHERITED = ("HOME", "LOGNAME", "PATH", "SHELL", "TERM", "USER")
"""The variables that a child gets from our own environment: what programs need to start, and no secrets."""


def inherited_environment() -> dict[str, str]:
    """Those of `INHERITED` that are set; what looks like an exported shell function is left out."""
    values = {name: os.environ[name] for name in INHERITED if name in os.environ}
    return {name: value for name, value in values.items() if not value.startswith("()")}


@dataclass(frozen=True, slots=True)
class Command:
    """What to run. Nothing of it is seen by a shell.

    Attributes:
        argv: the program, looked up in the child's own ``PATH``, and its arguments.
        cwd: the folder that it runs in; None for ours.
        env: its environment, laid over the few variables that every child inherits (`inherited_environment`).
        sandbox: how it is confined; `Confinement.check` says at start whether that can be done here.

    Raises:
        ValueError: nothing to run, a NUL character, or a variable whose name cannot be one.
    """

    argv: tuple[str, ...]
    cwd: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    sandbox: Confinement = UNCONFINED

    def __post_init__(self) -> None:
        object.__setattr__(self, "argv", tuple(self.argv))
        if not self.argv or not self.argv[0]:
            raise ValueError("the command is empty; it must begin with a program to run")
        for what, texts in (("argument", self.argv), ("variable", (*self.env, *self.env.values()))):
            for text in texts:
                if "\0" in text:
                    raise ValueError(f"the {what} {text!r} holds a NUL character, which none may")
        for name in self.env:
            if not name or "=" in name:
                raise ValueError(f"{name!r} cannot name a variable: it must not be empty, nor hold '='")
        if self.cwd is not None and (not self.cwd or "\0" in self.cwd):
            raise ValueError(f"cwd is {self.cwd!r}; it must be the path of a folder")

    def environment(self) -> dict[str, str]:
        """The child's whole environment."""
        return {**inherited_environment(), **self.env}

    def order(self, parent: int, orphan_grace: float) -> bytes:
        """The command as the launcher reads it; see `erlmcp.processes.launcher.Order`."""
        records = [b"parent=%d" % parent, b"orphan_grace=%r" % orphan_grace]
        records += [b"arg=" + os.fsencode(text) for text in self.sandbox.wrap(self.argv, self.cwd)]
        records += [b"env=" + os.fsencode(f"{name}={value}") for name, value in self.environment().items()]
        records += [b"limit=%d=%d" % pair for pair in self.sandbox.resource_limits()]
        if self.sandbox.kind == "bwrap":
            records.append(b"wrapper=bwrap")
        if self.cwd is not None:
            records.append(b"cwd=" + os.fsencode(self.cwd))
        return b"\0".join(records) + b"\0\0"
