"""How a child process is confined: resource limits, a file system of its own, a control group; and whether that works.

Nothing here is weakened in silence: what the machine cannot do is an error of `Confinement.check`.
"""

import os
import resource
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

Kind = Literal["none", "rlimits", "bwrap", "systemd-run"]

PROBE_PATIENCE: Final = 10.0
"""Seconds that trying out a sandbox may take."""
LEAST_FILES: Final = 16
"""Fewer open files than these, and hardly a program can start."""
LEAST_MEMORY: Final = 16 * 1024 * 1024
"""Bytes; with less, hardly a program can start."""


@dataclass(frozen=True, slots=True)
class Confinement:
    """How a child is confined.

    Attributes:
        kind: ``none``; ``rlimits``: the limits below, for each process, and no core dumps; ``bwrap``: those, and a
            read-only file system, a ``/tmp`` and ``/run`` of its own, processes and network of its own;
            ``systemd-run``: a scope whose memory is bounded for all its processes together, and the other limits.
        memory: bytes of address space (``systemd-run``: of memory in use); None for no limit.
        files: open files of each process; None for no limit.
        cpu_seconds: processor time of each process; None for no limit.
        network: ``bwrap``: whether it may use the network.
        writable: ``bwrap``: paths that it may write to.
        readable: ``bwrap``: paths that it may read although they lie in ``/tmp``, ``/run`` or below a hidden one.
        hidden: ``bwrap``: folders that it finds empty.

    Raises:
        ValueError: a limit that nothing would enforce under this kind, or that no program could live with.
    """

    kind: Kind = "none"
    memory: int | None = None
    files: int | None = None
    cpu_seconds: int | None = None
    network: bool = False
    writable: tuple[str, ...] = ()
    readable: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"sandbox is {self.kind!r}; it must be one of {', '.join(get_args(Kind))}")
        least = {"memory": LEAST_MEMORY, "files": LEAST_FILES, "cpu_seconds": 1}
        for name, bound in least.items():
            value = getattr(self, name)
            if value is not None and self.kind == "none":
                raise ValueError(f"{name} is {value}, but nothing enforces it with sandbox none; use rlimits")
            if value is not None and value < bound:
                raise ValueError(f"{name} is {value}; it must be at least {bound}")
        for name in ("network", "writable", "readable", "hidden"):
            value = getattr(self, name)
            if value and self.kind != "bwrap":
                raise ValueError(f"{name} means something with sandbox bwrap alone, not with {self.kind}")
            for path in value if isinstance(value, tuple) else ():
                if not path.startswith("/") or "\0" in path:
                    raise ValueError(f"{name} holds {path!r}; it must be an absolute path")

    def check(self) -> None:
        """Try the sandbox out, once, before anything depends on it. Blocks for some milliseconds.

        Raises:
            ValueError: it does not work here; the message says what is missing, and what would be right.
        """
        if self.kind not in {"bwrap", "systemd-run"}:
            return
        if shutil.which(self.kind) is None:
            instead = "install bubblewrap" if self.kind == "bwrap" else "use a system that runs systemd"
            raise ValueError(
                f"sandbox {self.kind} needs the program {self.kind}, which is not in PATH: "
                f"{instead}, or ask for another sandbox"
            )
        for path in (*self.writable, *self.readable, *self.hidden):
            if not Path(path).exists():
                raise ValueError(f"sandbox {self.kind} names {path}, which does not exist")
        try:
            done = subprocess.run(  # noqa: S603 - a fixed command
                self.wrap(("true",), None),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=PROBE_PATIENCE,
                check=False,
            )
        except subprocess.TimeoutExpired:
            said = f"no answer within {PROBE_PATIENCE:g} s"
        else:
            if done.returncode == 0:
                return
            said = done.stderr.decode(errors="replace").strip() or f"exit code {done.returncode}"
        raise ValueError(f"sandbox {self.kind} does not work here ({said}): make it work, or ask for another")

    def resource_limits(self) -> list[tuple[int, int]]:
        """The limits that the launcher sets: ``(resource, value)``."""
        if self.kind == "none":
            return []
        limits = [(resource.RLIMIT_CORE, 0)]
        if self.memory is not None and self.kind != "systemd-run":
            limits.append((resource.RLIMIT_AS, self.memory))
        if self.files is not None:
            limits.append((resource.RLIMIT_NOFILE, self.files))
        if self.cpu_seconds is not None:
            limits.append((resource.RLIMIT_CPU, self.cpu_seconds))
        return limits

    def wrap(self, argv: tuple[str, ...], cwd: str | None) -> tuple[str, ...]:
        """The command line with the sandbox's own program before it, if it has one."""
        if self.kind == "bwrap":
            return (shutil.which("bwrap") or "bwrap", *self._bwrap(cwd), "--", *argv)
        if self.kind == "systemd-run":
            return (shutil.which("systemd-run") or "systemd-run", *self._systemd_run(), "--", *argv)
        return argv

    def _bwrap(self, cwd: str | None) -> list[str]:
        options = ["--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"]
        for path in ("/tmp", "/run", *self.hidden):  # noqa: S108 - the child's own
            options += ["--tmpfs", path]
        if self.network and Path("/run/systemd/resolve").is_dir():
            # /etc/resolv.conf mostly points there.
            options += ["--ro-bind", "/run/systemd/resolve", "/run/systemd/resolve"]
        for path in self.readable:
            options += ["--ro-bind", path, path]
        for path in self.writable:
            options += ["--bind", path, path]
        options += ["--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
        if not self.network:
            options.append("--unshare-net")
        options += ["--cap-drop", "ALL", "--die-with-parent"]
        if cwd is not None:
            options += ["--chdir", cwd]
        return options

    def _systemd_run(self) -> list[str]:
        options = ["--scope", "--quiet", "--collect"]
        if os.geteuid() != 0:
            options.append("--user")
        if self.memory is not None:
            options += ["-p", f"MemoryMax={self.memory}", "-p", "MemorySwapMax=0"]
        return options


UNCONFINED: Final = Confinement()
"""No confinement."""
