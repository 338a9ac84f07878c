"""What is broken, how, and when it counts as healed."""

import json
import random
import signal
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from erlmcp.client import Client, ClientError, http
from erlmcp.governor import BreakerPolicy
from tests.chaos.proxy import FaultProxy, Mode
from tests.chaos.tally import Break, Tally
from tests.chaos.world import DRAIN, World, send

HEAL: Final = 45.0
"""Seconds after which something does not heal any more."""
_KILLS: Final = 4
"""Deaths of one worker within a minute; after five the supervisor gives up, and is meant to."""
_MINUTE: Final = 60.0
_AWAY: Final = HEAL + BreakerPolicy().longest
"""An upstream that is killed again and again is left alone for ever longer, up to this bound."""
_LATE: Final = 10.0
"""Seconds for an answer from a worker, which may be stopped meanwhile."""
_TRIES: Final = 60
_DELETIONS: Final = 1500
_PROBES: Final = BreakerPolicy().probes
"""So many calls in a row have to go well before a worker refuses nobody any more."""


class NotHealedError(Exception):
    """It stays broken."""


class Faults:
    """Breaks things, one at a time or together.

    Args:
        reactor: what it runs on.
        world: the daemon.
        web, lines: the proxies before its listeners.
        tally: where it says what it does.
        chance: what is left to chance.
        patient: whether there is time for what takes long to be noticed.

    Attributes:
        seen: the processes of all workers so far.
        every: the faults, by name.
    """

    def __init__(
        self,
        reactor: Any,
        world: World,
        web: FaultProxy,
        lines: FaultProxy,
        tally: Tally,
        chance: random.Random,
        *,
        patient: bool = False,
    ) -> None:
        self.seen: set[int] = set()
        self._reactor = reactor
        self._world = world
        self._proxies = (web, lines)
        self._tally = tally
        self._chance = chance
        self._deaths: dict[str, deque[float]] = {}
        self._hung: set[int] = set()
        every: dict[str, Callable[[], Awaitable[None]]] = {
            "kill": self.kill,
            "stop": self.stop_worker,
            "freeze": self.stop_parent,
            "reload": self.reload,
            "network": self.network,
            "bytes": self.bad_bytes,
            "upstream": self.upstream,
        }
        if not world.disk:
            every["disk"] = self.full_disk
        if patient:
            every["hang"] = self.hang
        self.every = every

    # the faults

    async def kill(self) -> None:
        """kill -9 of a worker, now and then of two at once."""
        pids = await self._pids()
        now = time.monotonic()
        victims = self._chance.sample(sorted(pids), self._chance.choice((1, 1, 1, len(pids))))
        if not self._may_die(victims, now):
            return
        again = any(self._deaths[slot] and now - self._deaths[slot][-1] < _MINUTE for slot in victims)
        kind = "a worker is killed"
        promised = "1 s"
        if again:
            kind, promised = "a worker is killed again within a minute", "1 s, after the backoff"
        noted = self._tally.begin(kind, promised, costs=True)
        for slot in victims:
            self._deaths[slot].append(now)
            send(pids[slot], signal.SIGKILL)
        dead = {pids[slot] for slot in victims}
        await self._until(noted, lambda: self._serve(without=dead))

    def _may_die(self, victims: list[str], now: float) -> bool:
        """Whether the supervisor does not give up yet if these die."""
        each = [self._deaths.setdefault(slot, deque(maxlen=_KILLS)) for slot in victims]
        return not any(len(deaths) == _KILLS and now - deaths[0] < _MINUTE for deaths in each)

    async def hang(self) -> None:
        """SIGSTOP of a worker that nobody lets go on: it is found out, and replaced."""
        pids = await self._pids()
        slot, now = self._chance.choice(sorted(pids)), time.monotonic()
        if not self._may_die([slot], now):
            return
        noted = self._tally.begin("a worker hangs", "10 s to find out, then as a kill", costs=True)
        self._deaths[slot].append(now)
        self._hung.add(pids[slot])
        send(pids[slot], signal.SIGSTOP)
        await self._until(noted, lambda: self._serve(without={pids[slot]}))
        self._hung.discard(pids[slot])

    async def stop_worker(self) -> None:
        """SIGSTOP of a worker: its callers wait until it goes on."""
        pids = await self._pids()
        slot = self._chance.choice(sorted(pids))
        await self._stopped(pids[slot], "a worker was stopped, and goes on")

    async def stop_parent(self) -> None:
        """SIGSTOP of the parent: workers serve on without it."""
        await self._stopped(self._world.daemon.pid, "the parent was stopped, and goes on")

    async def _stopped(self, pid: int, kind: str) -> None:
        send(pid, signal.SIGSTOP)
        try:
            await self.pause(0.2 + 1.8 * self._chance.random())
        finally:
            if pid not in self._hung:
                send(pid, signal.SIGCONT)
        await self._until(self._tally.begin(kind, "-"), self._serve)

    async def reload(self) -> None:
        """SIGHUP with another configuration: nobody loses anything."""
        self._world.write()
        noted = self._tally.begin("a reload, until all workers are new", "-")
        noted.parts = DRAIN
        before = set((await self._pids()).values())
        self._world.daemon.signal(signal.SIGHUP)
        await self._until(noted, lambda: deferToThread(self._world.news, "reloaded"))
        await self._check(lambda: self._serve(without=before))

    async def network(self) -> None:
        """Connections that go wrong, each in its way."""
        chance = self._chance
        modes = chance.choice(
            ([Mode.BYTEWISE], [Mode.SLOW], [Mode.SILENT], [Mode.CUT], [Mode.RESET], [Mode.SPOILT], list(Mode))
        )
        for proxy in self._proxies:
            proxy.turn(lambda: chance.choice(modes))
        await self.pause(0.3 + 1.2 * chance.random())
        noted = self._tally.begin("connections were bad, and are well again", "1 – 30 s")
        for proxy in self._proxies:
            proxy.turn(lambda: Mode.FAIR)
        await self._until(noted, lambda: self._answers(self._proxies[0].port))

    async def bad_bytes(self) -> None:
        """Bytes that are no message, or none of HTTP: an error, or the end of that connection."""
        chance, world = self._chance, self._world
        noted = self._tally.begin("an invalid message, on a connection that goes on", "100 ms")
        bad = b'{"jsonrpc": "2.0", "id": 1, "method": \n{"id": 2}\n'
        said = await deferToThread(world.talk, bad, world.lines, patience=_LATE, lines=2)
        noted.healed = time.monotonic()
        # Amid another break the line may have ended in the middle of an answer.
        codes = [json.loads(line)["error"]["code"] for line in said.splitlines(True) if line.endswith(b"\n")]
        if codes != [-32700, -32600] and not self._tally.excused(noted.began):
            self._tally.wrong.append(f"bad messages were answered {said!r}")
        for port in (world.web, world.lines):
            for _ in range(3):
                heard = await deferToThread(world.talk, _garbage(chance), port, patience=0.2)
                if b'"result"' in heard:
                    self._tally.wrong.append(f"garbage was answered {heard[:300]!r}")
        if not await self._answers(world.web) and not self._tally.excused(noted.began):
            self._tally.wrong.append("after bad bytes it does not answer")

    async def upstream(self) -> None:
        """kill -9 of the upstream, which comes back a little later: only calls to it are lost."""
        world = self._world
        # Lines may still be with workers of before a reload, and nobody sees what those know of the upstream.
        await self._check(self._new_alone)
        noted = self._tally.begin(
            "the upstream was killed, and is there again",
            "1 – 30 s, or once its breaker lets it be asked: 5 – 60 s",
            costs=True,
            far=True,
        )
        await deferToThread(world.far.kill)
        await self.pause(0.2 + 1.3 * self._chance.random())
        await deferToThread(world.restart_far)

        async def known() -> bool:
            # Who comes, or goes, amid another break has to have done so.
            return self._tally.alone(noted) and await self._new_alone() and await self._serve(way="far.pid")

        await self._until(noted, known, within=_AWAY)

    async def _new_alone(self) -> bool:
        """Whether there are no workers but those that take new connections."""
        pids = set((await deferToThread(self._world.pids)).values())
        return len(pids) == self._world.workers and set(self._world.left(self.seen)) <= pids

    async def full_disk(self) -> None:
        """No byte is left for the state: it says so, serves on, and writes again once it can."""
        world = self._world
        await deferToThread(world.fill)
        try:
            for _ in range(_DELETIONS):
                await self._session()
                ready, why = await deferToThread(world.ready)
                if not ready:
                    break
            else:
                raise NotHealedError("the disk is full, and /readyz does not say so")
            if "engine" not in why and "disk" not in why:
                self._tally.wrong.append(f"with a full disk, /readyz says {why!r}")
            if not await self._answers(world.web) and not self._tally.excused(time.monotonic()):
                self._tally.wrong.append("with a full disk it does not answer")
            await self.pause(0.5 * self._chance.random())
        finally:
            await deferToThread(world.free)

        async def ready_again() -> bool:
            return (await deferToThread(world.ready))[0]

        await self._until(self._tally.begin("the disk was full, and has room again", "-"), ready_again)

    # what they share

    def pause(self, seconds: float) -> Deferred[None]:
        """Wait."""
        return deferLater(self._reactor, seconds, lambda: None)

    async def settle(self) -> None:
        """Wait until everything serves again."""
        for proxy in self._proxies:
            proxy.turn(lambda: Mode.FAIR)
        await self._check(self._serve)

    async def _pids(self) -> dict[str, int]:
        """The workers, once all are there."""
        found: dict[str, int] = {}

        async def whole() -> bool:
            found.update(await deferToThread(self._world.pids))
            return len(found) == self._world.workers

        await self._check(whole)
        self.seen |= set(found.values())
        return found

    async def _until(self, noted: Break, healed: Callable[[], Awaitable[bool]], within: float = HEAL) -> None:
        await self._check(healed, noted.kind, within)
        noted.healed = time.monotonic()

    async def _check(
        self, healed: Callable[[], Awaitable[bool]], what: str = "the daemon", within: float = HEAL
    ) -> None:
        deadline = time.monotonic() + within
        while not await healed():
            if time.monotonic() > deadline:
                raise NotHealedError(f"{what}: not healed within {within:g} s")
            await self.pause(0.01)

    async def _serve(self, without: frozenset[int] | set[int] = frozenset(), way: str = "") -> bool:
        """Whether all workers are there, and each answers new connections; this tool too, if one is named."""
        pids = set((await deferToThread(self._world.pids)).values())
        self.seen |= pids
        if len(pids) < self._world.workers or pids & without:
            return False
        for _ in range(_TRIES):
            # One connection: what is asked on it is asked of one worker.
            target = http(self._reactor, self._url(self._world.web), connections_per_origin=1)
            client = Client(target, self._reactor, era="modern", timeout=_LATE)
            try:
                for _ in range(_PROBES if way else 0):
                    await client.call(way)
                pids.discard(int((await client.call("pid")).text))
            except ClientError:
                return False
            finally:
                await client.close()
            if not pids:
                return True
        return False

    async def _answers(self, port: int) -> bool:
        client = Client(http(self._reactor, self._url(port)), self._reactor, era="modern", timeout=_LATE)
        try:
            return bool((await client.call("pid")).text)
        except ClientError:
            return False
        finally:
            await client.close()

    async def _session(self) -> None:
        """Open a session and delete it, which is to be remembered."""
        began = time.monotonic()
        client = Client(
            http(self._reactor, self._url(self._world.web)), self._reactor, era="2025-11-25", timeout=_LATE
        )
        try:
            await client.connect()
        except ClientError as error:
            if not self._tally.excused(began):
                self._tally.wrong.append(f"no session is given: {error}")
        finally:
            await client.close()

    @staticmethod
    def _url(port: int) -> str:
        return f"http://127.0.0.1:{port}/mcp"


def _garbage(chance: random.Random) -> bytes:
    """Random bytes, or a request with some of its bytes changed, cut off or repeated."""
    if chance.random() < 0.3:
        return chance.randbytes(chance.randrange(1, 5000))
    body = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"mark":"x"}}}'
    head = b"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    data = bytearray(head % len(body) + body)
    for _ in range(chance.randrange(1, 20)):
        data[chance.randrange(len(data))] = chance.randrange(256)
    start = chance.randrange(len(data))
    return bytes(data[:start] * chance.choice((1, 1, 3)))
