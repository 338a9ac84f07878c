"""``erlmcp pin``: what upstreams' tools are now, against what was accepted of them."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from twisted.internet.defer import ensureDeferred

from erlmcp.cli._forms import printable
from erlmcp.client import Client, ClientError
from erlmcp.config import ConfigurationError, Settings, UpstreamSettings, nearest, state_directory
from erlmcp.gateway import PINS_FILE, Access, Differences, compare, digests, read_pins, write_pins
from erlmcp.interfaces import ANONYMOUS

OK: Final = 0
REFUSED: Final = 1
"""Something is not as it was accepted, or cannot be recorded."""
UNREACHED: Final = 3

Reach = Callable[[UpstreamSettings], Access]
"""Makes the way to an upstream; ValueError and OSError if that cannot be."""


def run(options: argparse.Namespace) -> int:
    """Compare, and record what is new or is to be accepted."""
    from erlmcp.tap import access_to

    try:
        settings = _settings(Path(options.file))
        upstreams = chosen(settings, options.upstream)
    except (ConfigurationError, ValueError) as error:
        print(error, file=sys.stderr)
        return REFUSED
    from twisted.internet import reactor

    status = UNREACHED

    def ended(outcome: Any) -> None:
        nonlocal status
        if isinstance(outcome, int):
            status = outcome
        else:
            outcome.printTraceback(sys.stderr)
        reactor.stop()

    def begin() -> None:
        def reach(one: UpstreamSettings) -> Access:
            return access_to(one, settings, os.environ)(reactor)

        work = pin_all(reactor, settings, upstreams, reach, accept=options.accept)
        ensureDeferred(work).addBoth(ended)

    reactor.callWhenRunning(begin)
    reactor.run()
    return status


def chosen(settings: Settings, name: str | None) -> Sequence[UpstreamSettings]:
    """The upstreams that are meant.

    Raises:
        ValueError: there is none, or none of that name.
    """
    names = [one.name for one in settings.upstreams]
    if not names:
        raise ValueError("the configuration has no [[upstream]], so there is nothing to pin")
    if name is not None and name not in names:
        raise ValueError(f"there is no upstream {name!r}; {nearest(name, names)}")
    return [one for one in settings.upstreams if name in (None, one.name)]


def pins_file(settings: Settings, upstream: UpstreamSettings) -> Path:
    """Where an upstream's pins are kept; makes the state directory if need be.

    Raises:
        ValueError: nowhere.
        OSError: the state directory cannot be made.
    """
    if upstream.pins is not None:
        return Path(upstream.pins)
    folder = state_directory(settings.server)
    if folder is None:
        raise ValueError(
            "there is no state directory to keep pins in: set [server] state, or pins of the upstream"
        )
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder / PINS_FILE


async def pin_all(
    reactor: Any,
    settings: Settings,
    upstreams: Sequence[UpstreamSettings],
    reach: Reach,
    *,
    accept: bool,
) -> int:
    """Compare one upstream after the other; the worst of what they come to."""
    worst = OK
    for upstream in upstreams:
        try:
            came = await _pin(reactor, pins_file(settings, upstream), upstream, reach, accept=accept)
        except ClientError as error:
            _say(upstream, f"not reached: {error}")
            came = UNREACHED
        except OSError as error:
            _say(upstream, f"{error.filename}: {error.strerror}")
            came = REFUSED
        except ValueError as error:
            _say(upstream, str(error))
            came = REFUSED
        worst = max(worst, came)
    return worst


async def _pin(reactor: Any, file: Path, upstream: UpstreamSettings, reach: Reach, *, accept: bool) -> int:
    pins = read_pins(file)
    now = digests(await _tools(reactor, reach(upstream), upstream))
    before = pins.get(upstream.name)
    differences = Differences() if before is None else compare(before, now)
    if before is not None and not differences:
        print(f"{upstream.name}: {_count(now)}, as accepted")
        return OK
    for kind in ("new", "changed", "gone"):
        for name in getattr(differences, kind):
            print(f"{upstream.name}: {kind}: {printable(name)}")
    if before is not None and not accept:
        print(f"{upstream.name}: not recorded; look at what differs, then say --accept", file=sys.stderr)
        return REFUSED
    write_pins(file, {**pins, upstream.name: now})
    print(f"{upstream.name}: {_count(now)} recorded in {file}")
    return OK


async def _tools(reactor: Any, access: Access, upstream: UpstreamSettings) -> list[dict[str, Any]]:
    try:
        client = Client(
            access.target(ANONYMOUS),
            reactor,
            era=upstream.era,
            timeout=upstream.list_timeout,
            connect_timeout=upstream.connect_timeout,
        )
        async with client:
            return [tool.wire for tool in await client.list_tools()]
    finally:
        await access.close()


def _settings(file: Path) -> Settings:
    from erlmcp import config

    return config.load(file, config.transports())


def _count(now: dict[str, str]) -> str:
    return f"{len(now)} tool{'' if len(now) == 1 else 's'}"


def _say(upstream: UpstreamSettings, text: str) -> None:
    print(printable(f"{upstream.name}: {text}"), file=sys.stderr)
