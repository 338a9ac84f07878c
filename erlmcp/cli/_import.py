"""``erlmcp import``."""

import argparse
import os
import sys
from pathlib import Path
from typing import Final

from erlmcp.cli._forms import printable

_MOST_BYTES: Final = 16 * 1024 * 1024


def run(options: argparse.Namespace) -> int:
    """Print or write the TOML of a host's configuration; notes and problems go to standard error."""
    from erlmcp.gateway import read_host

    try:
        text = _read(options.file)
    except ValueError as error:
        print(f"{options.file}: {error}", file=sys.stderr)
        return 1
    found = read_host(text)
    for problem in found.problems:
        print(printable(f"{options.file}: {problem}"), file=sys.stderr)
    if found.problems:
        return 1
    origin = "standard input" if options.file == "-" else Path(options.file).name
    text = f"# From {origin!a}, by `erlmcp import`.\n\n{found.text}"
    if options.output is None:
        print(text, end="")
    else:
        try:
            _write(Path(options.output), text)
        except OSError as error:
            print(f"{options.output}: cannot be written: {error.strerror}", file=sys.stderr)
            return 1
    for note in found.notes:
        print(printable(f"note: {note}"), file=sys.stderr)
    return 0


def _read(name: str) -> str:
    try:
        data = sys.stdin.buffer.read(_MOST_BYTES + 1) if name == "-" else _bytes(Path(name))
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8") from None
    if len(data) > _MOST_BYTES:
        raise ValueError(f"is larger than {_MOST_BYTES} bytes")
    return text


def _bytes(file: Path) -> bytes:
    with file.open("rb") as stream:
        return stream.read(_MOST_BYTES + 1)


def _write(file: Path, text: str) -> None:
    """A new file that its owner alone can read: what it starts may be told by arguments."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
