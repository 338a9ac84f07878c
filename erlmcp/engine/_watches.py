"""Changes in their order, those who watch them, and hints."""

from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from erlmcp.engine._bounds import Bounds
from erlmcp.interfaces import EngineFull, KeyChange, KeySnapshot

log = Logger()


class _Watch:
    """One watcher. `known` is the revision that it has been told of; -1 for nothing."""

    __slots__ = ("known", "prefix", "watcher")

    def __init__(
        self, prefix: str, watcher: Callable[[KeyChange | KeySnapshot], None] | None, known: int
    ) -> None:
        self.prefix = prefix
        self.watcher = watcher
        self.known = known


class Changes:
    """The last changes, a revision each, and who is told of them: in a later turn, so as not to be in a caller's way.

    Args:
        clock: for turns of the reactor.
        bounds: how much is kept.
        revision: changes begin after this one.
        snapshot: all there is under a prefix now; making it may be a change too.
    """

    def __init__(
        self, clock: IReactorTime, bounds: Bounds, revision: int, snapshot: Callable[[str], KeySnapshot]
    ) -> None:
        self.revision = revision
        self._clock = clock
        self._bounds = bounds
        self._snapshot = snapshot
        self._kept: deque[KeyChange] = deque()
        self._size = 0
        self._watches: dict[_Watch, None] = {}
        self._turn: IDelayedCall | None = None

    def __len__(self) -> int:
        return len(self._watches)

    def add(self, key: str, value: bytes | None) -> int:
        """Note a change; returns its revision."""
        self.revision += 1
        self._kept.append(KeyChange(key, value, self.revision))
        self._size += len(value or b"")
        while len(self._kept) > self._bounds.changes or self._size > self._bounds.change_bytes:
            self._size -= len(self._kept.popleft().value or b"")
        if self._watches:
            self._tell_soon()
        return self.revision

    def watch(
        self, prefix: str, watcher: Callable[[KeyChange | KeySnapshot], None], since: int | None
    ) -> Callable[[], None]:
        """See `IEngine.watch`."""
        watch = _Watch(prefix, watcher, -1 if since is None else since)
        self._watches[watch] = None
        self._tell_soon()

        def end() -> None:
            watch.watcher = None
            self._watches.pop(watch, None)

        return end

    def stop(self) -> None:
        """Tell nobody any more."""
        for watch in self._watches:
            watch.watcher = None
        self._watches.clear()
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None

    def _tell_soon(self) -> None:
        if self._turn is None:
            self._turn = self._clock.callLater(0, self._tell)

    def _tell(self) -> None:
        self._turn = None
        for watch in list(self._watches):
            for news in self._news(watch):
                if watch.watcher is None:
                    break
                _call(watch.watcher, news)
        if any(watch.known != self.revision for watch in self._watches):
            # Watchers have made changes themselves: in the next turn, lest they hold the reactor up.
            self._tell_soon()

    def _news(self, watch: _Watch) -> list[KeyChange] | list[KeySnapshot]:
        """What a watcher has not been told of yet; from now on it has."""
        oldest = self.revision - len(self._kept)
        news: list[KeyChange] | list[KeySnapshot]
        if oldest <= watch.known <= self.revision:
            kept = islice(self._kept, watch.known - oldest, None)
            news = [change for change in kept if change.key.startswith(watch.prefix)]
        else:
            news = [self._snapshot(watch.prefix)]
        watch.known = self.revision
        return news


class Hints:
    """Hints on their way to those who subscribe.

    Args:
        clock: for turns of the reactor.
        most: hints on their way at once; more are lost.
    """

    def __init__(self, clock: IReactorTime, most: int) -> None:
        self.lost = 0
        self._clock = clock
        self._most = most
        self._hearers: dict[str, dict[object, Callable[[bytes], None]]] = {}
        self._count = 0
        self._waiting: deque[tuple[str, bytes]] = deque()
        self._turn: IDelayedCall | None = None

    def __len__(self) -> int:
        return self._count

    def publish(self, topic: str, payload: bytes) -> None:
        """See `IEngine.publish`."""
        if topic not in self._hearers:
            return
        if len(self._waiting) >= self._most:
            self.lost += 1
            return
        self._waiting.append((topic, payload))
        if self._turn is None:
            self._turn = self._clock.callLater(0, self._tell)

    def subscribe(self, topic: str, hearer: Callable[[bytes], None]) -> Callable[[], None]:
        """See `IEngine.subscribe`."""
        mark = object()
        self._hearers.setdefault(topic, {})[mark] = hearer
        self._count += 1

        def end() -> None:
            hearers = self._hearers.get(topic, {})
            if hearers.pop(mark, None) is not None:
                self._count -= 1
                if not hearers:
                    del self._hearers[topic]

        return end

    def stop(self) -> None:
        """Tell nobody any more."""
        self._hearers.clear()
        self._count = 0
        self._waiting.clear()
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None

    def _tell(self) -> None:
        self._turn = None
        waiting, self._waiting = self._waiting, deque()
        for topic, payload in waiting:
            for mark in list(self._hearers.get(topic, ())):
                hearer = self._hearers.get(topic, {}).get(mark)
                if hearer is not None:
                    _call(hearer, payload)


def check_room(changes: Changes, hints: Hints, most: int) -> None:
    """See that one more may watch or subscribe. Raises EngineFull."""
    if len(changes) + len(hints) >= most:
        raise EngineFull(f"{most} watch or subscribe already")


def _call(hearer: Callable[[Any], None], news: object) -> None:
    try:
        hearer(news)
    except Exception:  # noqa: BLE001 - one watcher's failure is not another's
        log.failure("a watcher of the engine failed: {hearer!r}", hearer=hearer)
