"""Digests of upstream tools' definitions as somebody accepted them: what has changed since is hidden, or flagged.

A server that is trusted for what its tools said yesterday may say something else to the model today.
"""

import hashlib
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
from msgspec import Raw, Struct

PINS_FILE: Final = "pins.toml"
"""In the state directory."""
PIN_KEY: Final = "io.erlmcp/pin"
"""In the `_meta` of a tool that is flagged: ``changed`` or ``new``."""

Pins = Mapping[str, Mapping[str, str]]
"""Upstream -> own tool name -> digest."""

_MEMBERS: Final = ("annotations", "description", "inputSchema", "name", "outputSchema", "title")
"""All that a model goes by, or a host asks its user by."""
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_MOST_BYTES: Final = 32 * 1024 * 1024
_HEAD: Final = """\
# Tools of upstreams, each with the digest of its definition as it was accepted. Written by `erlmcp pin`.
"""


class Accepted(Struct, frozen=True):
    """What is accepted of one upstream.

    Attributes:
        digests: own tool name -> digest.
        changed: what becomes of a tool that is not so: ``hide`` or ``flag``.
    """

    digests: Mapping[str, str]
    changed: Literal["hide", "flag"] = "hide"

    def verdict(self, name: str, tool: Raw | Mapping[str, Any]) -> str | None:
        """``changed`` or ``new`` for a tool that nobody has accepted as it is; None for one that is as it was.

        Raises:
            ValueError: it is no definition that a digest can be made of.
        """
        known = self.digests.get(name)
        if known is None:
            return "new"
        return None if digest(tool) == known else "changed"


class Differences(Struct, frozen=True):
    """How an upstream's tools differ from what is accepted: their names, sorted."""

    new: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.new or self.changed or self.gone)


def digest(tool: Raw | Mapping[str, Any]) -> str:
    """The digest of a ``Tool`` object: of its name, title, description, schemas and annotations, in whatever order.

    Raises:
        ValueError: it is no object, or holds a number or a depth that cannot be written again.
    """
    try:
        members = msgspec.json.decode(tool, type=dict[str, Any]) if isinstance(tool, Raw) else tool
        said = {key: members[key] for key in _MEMBERS if members.get(key) is not None}
        text = msgspec.json.encode(said, order="sorted")
    except (msgspec.MsgspecError, RecursionError, OverflowError) as error:
        raise ValueError(f"no digest can be made of it: {error}") from None
    return f"sha256:{hashlib.sha256(text).hexdigest()}"


def digests(tools: Iterable[Raw | Mapping[str, Any]]) -> dict[str, str]:
    """Own name -> digest of tools as they are listed; of two with one name the first counts, as in the gateway.

    Raises:
        ValueError: there is one that no digest can be made of; the message says which.
    """
    found: dict[str, str] = {}
    for place, tool in enumerate(tools, 1):
        members = msgspec.json.decode(tool) if isinstance(tool, Raw) else tool
        name = members.get("name") if isinstance(members, Mapping) else None
        if not isinstance(name, str):
            raise ValueError(f"the tool in place {place} has no name")  # noqa: TRY004 - the upstream's mistake
        if name not in found:
            try:
                found[name] = digest(members)
            except ValueError as error:
                raise ValueError(f"the tool {name!r}: {error}") from None
    return found


def compare(accepted: Mapping[str, str], now: Mapping[str, str]) -> Differences:
    """How `now` differs from what is accepted, both own name -> digest."""
    return Differences(
        new=tuple(sorted(now.keys() - accepted.keys())),
        changed=tuple(sorted(name for name in now.keys() & accepted.keys() if now[name] != accepted[name])),
        gone=tuple(sorted(accepted.keys() - now.keys())),
    )


def read_pins(file: Path) -> dict[str, dict[str, str]]:
    """What a pins file says; nothing if there is none.

    Raises:
        ValueError: it cannot be read, or is no pins file; the message names it and the place.
    """
    try:
        if file.stat().st_size > _MOST_BYTES:
            raise ValueError(f"{file} is larger than {_MOST_BYTES} bytes: that is no pins file")
        tables = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{file} is not UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{file} is no TOML: {error}") from None
    for upstream, pins in tables.items():
        if not isinstance(pins, dict):
            raise ValueError(f"{file}: {upstream} is no table; write [{upstream}]")  # noqa: TRY004 - a file's
        for name, value in pins.items():
            if not isinstance(value, str) or _DIGEST.fullmatch(value) is None:
                raise ValueError(
                    f"{file}: {upstream}.{name} is no digest; it is 'sha256:' and 64 hexadecimal digits"
                )
    return tables


def write_pins(file: Path, pins: Pins) -> None:
    """Write a pins file, whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    lines = [_HEAD]
    for upstream in sorted(pins):
        lines.append(f"\n[{_key(upstream)}]\n")
        lines += [f'{_key(name)} = "{value}"\n' for name, value in sorted(pins[upstream].items())]
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with draft.open("w", encoding="utf-8") as stream:
            stream.writelines(lines)
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)


def accepted(
    file: Path | None, upstream: str, changed: Literal["hide", "flag"], *, demanded: bool
) -> Accepted | None:
    """What is accepted of an upstream; None if nothing of it is pinned.

    Args:
        file: the pins file; None for none.
        upstream: its name.
        changed: what becomes of what is not accepted.
        demanded: whether the configuration names the file, so that an upstream must be in it.

    Raises:
        ValueError: the file cannot be read, or has nothing of an upstream that must be in it.
    """
    pins = {} if file is None else read_pins(file)
    if upstream in pins:
        return Accepted(pins[upstream], changed)
    if demanded:
        raise ValueError(f"{file} has no pins of {upstream!r}: `erlmcp pin` records them")
    return None


def _key(name: str) -> str:
    """A name as a TOML key: quoted, since names of tools may have anything."""
    if re.fullmatch(r"[A-Za-z0-9_-]+", name):
        return name
    return msgspec.json.encode(name).decode().replace("\x7f", "\\u007F")
