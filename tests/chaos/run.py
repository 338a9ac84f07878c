"""One run: callers, breaks, and what is looked at when all is over."""

import random
import time
from pathlib import Path
from typing import Any, Final

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.threads import deferToThread

from erlmcp.client import HttpLimits, Target, http, stream
from tests.chaos.callers import BACKOFF, HANG, Caller, Watcher
from tests.chaos.faults import HEAL, Faults, NotHealedError
from tests.chaos.proxy import FaultProxy
from tests.chaos.tally import Tally
from tests.chaos.world import World

WORKERS: Final = 2
_ERAS: Final = ("modern", "2025-11-25", "2025-06-18")
_EACH: Final = 2
_TOGETHER: Final = 0.2
"""How often two things are broken at once."""
_PATIENT: Final = 60.0
"""Seconds of a run that has time for what takes long to be noticed."""
_BAD: Final = ("Unhandled", "Traceback (most recent call last)", "never retrieved")


async def chaos(reactor: Any, folder: Path, seconds: float, seed: int, only: list[str] | None) -> Tally:
    """Start a daemon, break it for a while, and end it.

    Args:
        reactor: what the clients and the proxies run on.
        folder: an empty one.
        seconds: how long things are broken.
        seed: decides what is broken when.
        only: the kinds of breaks; None for all.
    """
    tally = Tally()
    world = World(folder, WORKERS)
    if world.disk:
        print(f"left out: the full disk: {world.disk}")
    with world.with_upstream(), world.daemon:
        await _with_daemon(reactor, world, tally, seconds, seed, only)
    tally.check_ledger(world.ledger)
    tally.wrong += [
        f"the log has: {line}" for line in tally.log.splitlines() if any(bad in line for bad in _BAD)
    ]
    return tally


async def _with_daemon(
    reactor: Any, world: World, tally: Tally, seconds: float, seed: int, only: list[str] | None
) -> None:
    chance = random.Random(seed)
    web = FaultProxy(reactor, world.web, random.Random(f"{seed}/web"))
    lines = FaultProxy(reactor, world.lines, random.Random(f"{seed}/lines"))
    faults = Faults(reactor, world, web, lines, tally, chance, patient=seconds >= _PATIENT or bool(only))
    chosen = [name for name in faults.every if only is None or name in only]
    callers, watchers = _clients(reactor, world, web.port, lines.port, tally, seed)
    running: list[Deferred[None]] = []
    try:
        await faults.settle()
        await DeferredList([one.start() for one in watchers], fireOnOneErrback=True, consumeErrors=True)
        running = [Deferred.fromCoroutine(one.run()) for one in callers]
        await _break(faults, tally, chosen, chance, seconds)
        await faults.settle()
        await _all_answer(faults, callers, tally)
        await _all_hear(faults, watchers, tally)
    except NotHealedError as error:
        tally.wrong.append(str(error))
    for one in callers:
        one.end()
    ended = await DeferredList(running, consumeErrors=True)
    tally.wrong += [f"a caller ended with {result}" for good, result in ended if not good]
    await DeferredList([one.end() for one in watchers])
    await web.close()
    await lines.close()
    await _afterwards(world, faults, tally)


def _clients(
    reactor: Any, world: World, web: int, lines: int, tally: Tally, seed: int
) -> tuple[list[Caller], list[Watcher]]:
    def web_at(port: int, **options: Any) -> Target:
        return http(reactor, f"http://127.0.0.1:{port}/mcp", limits=HttpLimits(backoff=BACKOFF), **options)

    def ways(direct: int, proxied: int) -> dict[str, tuple[Target, bool]]:
        return {
            "HTTP/1.1": (web_at(world.web), False),
            "HTTP/2": (web_at(world.web, http2="prior_knowledge"), False),
            "TCP": (stream(reactor, f"tcp:127.0.0.1:{world.lines}"), False),
            "HTTP/1.1, proxied": (web_at(direct), True),
            "HTTP/2, proxied": (web_at(direct, http2="prior_knowledge"), True),
            "TCP, proxied": (stream(reactor, f"tcp:127.0.0.1:{proxied}"), True),
        }

    callers = []
    for turn in range(_EACH):
        for era in _ERAS:
            for number, (way, (target, proxied)) in enumerate(ways(web, lines).items()):
                name = f"{era}/{number}/{turn}"
                one = Caller(
                    reactor,
                    f"{way}, {era}",
                    name,
                    target,
                    era,
                    tally,
                    random.Random(f"{seed}/{name}"),
                    proxied=proxied,
                )
                callers.append(one)
    watchers = [
        Watcher(reactor, f"{way}, {era}", target, era)
        for era in _ERAS[:2]
        for way, (target, _) in ways(web, lines).items()
    ]
    return callers, watchers


async def _break(
    faults: Faults, tally: Tally, chosen: list[str], chance: random.Random, seconds: float
) -> None:
    """Break things in a random order, but each of them about as often, and once alone."""
    end = time.monotonic() + seconds
    waiting: list[str] = []
    left = set(chosen)
    while left or time.monotonic() < end:
        late = time.monotonic() >= end
        now = [min(left)] if late and left else drawn_from(waiting, chosen, chance)
        # One that had the daemon to itself: its time is what the table promises.
        left -= set(now) if len(now) == 1 else set()
        tally.together = len(now) > 1
        breaking = [Deferred.fromCoroutine(_as_coroutine(faults.every[name])) for name in now]
        outcomes: list[Any] = await DeferredList(breaking, consumeErrors=True)
        for good, result in outcomes:
            if not good:
                result.raiseException()
        await faults.pause(0.3 * chance.random())


def drawn_from(waiting: list[str], chosen: list[str], chance: random.Random) -> list[str]:
    """What is broken next: one of those that wait their turn, now and then two."""
    now: list[str] = []
    for _ in range(2 if chance.random() < _TOGETHER and len(chosen) > 1 else 1):
        if not waiting:
            waiting += chance.sample(chosen, len(chosen))
            if waiting[-1] in now:
                # Not the same twice at once: the one would mend what the other looks for.
                waiting.reverse()
        now.append(waiting.pop())
    return now


async def _as_coroutine(fault: Any) -> None:
    await fault()


async def _all_answer(faults: Faults, callers: list[Caller], tally: Tally) -> None:
    """Each caller has had a right answer after the last break."""
    since = time.monotonic()
    deadline = since + HEAL
    while late := [one.kind for one in callers if one.last_right < since]:
        if time.monotonic() > deadline:
            tally.wrong.append(f"no right answer for {HEAL:g} s after the last break: {late}")
            return
        await faults.pause(0.05)


async def _all_hear(faults: Faults, watchers: list[Watcher], tally: Tally) -> None:
    """Each watcher hears of what is announced after the last break, wherever it is announced."""
    deadline = time.monotonic() + HEAL
    before = {one: one.heard for one in watchers}
    deaf = watchers
    while deaf:
        if time.monotonic() > deadline:
            tally.wrong.append(f"not told of a change for {HEAL:g} s: {[one.kind for one in deaf]}")
            return
        await watchers[0].touch()
        await faults.pause(0.1)
        deaf = [one for one in watchers if one.heard == before[one]]


async def _afterwards(world: World, faults: Faults, tally: Tally) -> None:
    """Nothing is left over: no connection, no call, no process; and it ends as it should."""
    deadline = time.monotonic() + HANG
    gauges = ("erlmcp_connections_active", "erlmcp_requests_in_flight")
    while left := {name: kept for name in gauges if (kept := await deferToThread(world.gauge, name))}:
        if time.monotonic() > deadline:
            tally.wrong.append(f"after all callers have gone: {left}")
            break
        await faults.pause(0.1)
    status = await deferToThread(world.daemon.stop)
    if status != 0:
        tally.wrong.append(f"the daemon ended with status {status}")
    await deferToThread(world.far.stop)
    if processes := world.left(faults.seen):
        tally.wrong.append(f"processes are left over: {processes}")
    tally.log = world.daemon.output()
