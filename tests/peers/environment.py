"""Environments of peers that cannot live in ours, made once in a cache folder outside the tree."""

import contextlib
import fcntl
import functools
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.skips import need

SDK_V1 = "mcp>=1.30,<2"
"""The last 1.x release of the official SDK."""


def sdk_v1() -> str:
    """The interpreter of an environment with the official SDK 1.x.

    Raises:
        SkipTest: pip cannot install it, outside CI.
    """
    python, problem = _made(SDK_V1)
    need(not problem, f"an environment with {SDK_V1}, from PyPI: {problem}")
    return python


@functools.cache
def _made(requirement: str) -> tuple[str, str]:
    """The interpreter, and why there is none."""
    mark = hashlib.sha256(f"{sys.version}{sys.executable}{requirement}".encode()).hexdigest()[:12]
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "erlmcp-peers"
    folder = base / f"sdk-{mark}"
    python = folder / "bin" / "python"
    try:
        base.mkdir(parents=True, exist_ok=True)
        with _alone(base / f"sdk-{mark}.lock"):
            if not (folder / "complete").exists():
                _run([sys.executable, "-m", "venv", "--clear", "--without-pip", str(folder)])
                quiet = ["-q", "--disable-pip-version-check", "--no-input"]
                _run([sys.executable, "-m", "pip", "--python", str(python), "install", *quiet, requirement])
                (folder / "complete").touch()
    except (OSError, subprocess.TimeoutExpired) as error:
        return "", str(error)
    except subprocess.CalledProcessError as error:
        return "", (error.stderr or str(error)).strip()[-500:]
    return str(python), ""


@contextlib.contextmanager
def _alone(lock: Path) -> Iterator[None]:
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, timeout=300.0, capture_output=True, text=True)
