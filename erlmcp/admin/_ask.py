"""Asking a daemon: one question, one answer, without Twisted, so that a command starts quickly."""

import json
import socket
from pathlib import Path
from typing import Any

SOCKET = "admin.sock"
"""The name of the socket in the daemon's runtime directory."""

MOST = 64 * 1024 * 1024
"""Bytes of the longest answer."""


class AdminError(Exception):
    """The daemon cannot be asked, or does not answer; the message says why."""


def ask(folder: Path, question: str, *, timeout: float = 10.0, **more: Any) -> Any:
    """Ask the daemon whose runtime directory this is. Blocks.

    Args:
        folder: the directory.
        question: what to ask, such as ``status``.
        timeout: seconds for each step.
        more: further members of the question.

    Raises:
        AdminError: there is no answer.
    """
    path = folder / SOCKET
    try:
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(timeout)
            line.connect(str(path))
            line.sendall(json.dumps({"ask": question, **more}).encode() + b"\n")
            said = _read(line)
    except FileNotFoundError:
        raise AdminError(
            f"there is no {path}: no daemon runs there, or it has another runtime directory"
        ) from None
    except ConnectionRefusedError:
        raise AdminError(f"nothing answers at {path}: its daemon has gone") from None
    except TimeoutError:
        raise AdminError(f"{path} has not answered within {timeout:g} s") from None
    except OSError as error:
        raise AdminError(f"{path}: {error.strerror or error}") from None
    try:
        answer = json.loads(said)
    except ValueError:
        raise AdminError(f"{path} has hung up without an answer") from None
    if "error" in answer:
        raise AdminError(f"{path}: {answer['error']}")
    return answer["answer"]


def _read(line: socket.socket) -> bytes:
    said = bytearray()
    while not said.endswith(b"\n") and len(said) <= MOST:
        chunk = line.recv(65536)
        if not chunk:
            break
        said += chunk
    return bytes(said)
