"""The engine as a process sees it that it is not in: questions over a line, and a mirror of what is looked at often."""

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import msgspec
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from erlmcp.engine._arguments import check_give, check_key, check_put, check_register, check_take
from erlmcp.engine._bounds import check_name
from erlmcp.engine._messages import (
    Delete,
    Done,
    End,
    Get,
    Give,
    Heard,
    Publish,
    Put,
    Question,
    Register,
    Release,
    Renew,
    Subscribe,
    Take,
    Watch,
    encode,
    raised,
    read_answer,
    read_news,
)
from erlmcp.engine._records import NAMES
from erlmcp.interfaces import (
    EngineError,
    EngineFull,
    Grant,
    IEngine,
    KeyChange,
    KeySnapshot,
    Lease,
    Stored,
)

log = Logger()

MOST_WATCHERS = 1024


@implementer(IEngine)
class RemoteEngine:
    """An engine in another process.

    Args:
        ask: sends a question; fires with the answer, or fails when the other process has gone.
        tell: sends what needs no answer.
        mirrored: prefixes of keys that `peek` must know: it knows no others.
        most: how many may watch or subscribe at once.

    Attributes:
        synced: fires when the mirror is complete for the first time.
    """

    trouble: str | None = None

    def __init__(
        self,
        ask: Callable[[bytes], Deferred[bytes]],
        tell: Callable[[bytes], None],
        mirrored: Sequence[str],
        *,
        most: int = MOST_WATCHERS,
    ) -> None:
        self._ask = ask
        self._tell = tell
        self._most = most
        self._numbers = count(1)
        self._hearers: dict[int, Callable[[Any], None]] = {}
        self._mirror: dict[str, Stored] = {}
        self._unsynced = set(mirrored)
        self.synced: Deferred[None] = Deferred()
        for prefix in mirrored:
            self.watch(prefix, lambda news, prefix=prefix: self._mirrored(prefix, news))  # type: ignore[misc]
        if not mirrored:
            self.synced.callback(None)

    def told(self, body: bytes) -> None:
        """News have come."""
        news = read_news(body)
        hearer = self._hearers.get(news.number)
        if hearer is None:
            return
        try:
            hearer(news.payload if isinstance(news, Heard) else news.news)
        except Exception:  # noqa: BLE001 - one watcher's failure is not another's
            log.failure("a watcher of the engine failed: {hearer!r}", hearer=hearer)

    def peek(self, key: str) -> Stored | None:
        """See `IEngine`."""
        return self._mirror.get(key)

    def get(self, key: str) -> Deferred[Stored | None]:
        """See `IEngine`."""
        return self._send(Get(key), _stored)

    def put(
        self,
        key: str,
        value: bytes,
        *,
        expires: float | None = None,
        lease: Lease | None = None,
        expect: int | None = None,
        durable: bool = False,
    ) -> Deferred[int]:
        """See `IEngine`."""
        check_put(key, value, expires, lease, durable=durable)
        return self._send(Put(key, value, expires, lease, expect, durable))

    def delete(self, key: str, *, expect: int | None = None) -> Deferred[bool]:
        """See `IEngine`."""
        check_key(key)
        return self._send(Delete(key, expect))

    def register(self, name: str, owner: str, seconds: float) -> Deferred[Lease]:
        """See `IEngine`."""
        check_register(name, owner, seconds)
        return self._send(Register(name, owner, seconds), lambda value: msgspec.convert(value, Lease))

    def renew(self, lease: Lease) -> Deferred[None]:
        """See `IEngine`."""
        return self._send(Renew(lease))

    def release(self, lease: Lease) -> Deferred[None]:
        """See `IEngine`."""
        return self._send(Release(lease))

    def lookup(self, name: str) -> Deferred[Stored | None]:
        """See `IEngine`."""
        return self.get(NAMES + name)

    def watch(
        self, prefix: str, watcher: Callable[[KeyChange | KeySnapshot], None], since: int | None = None
    ) -> Callable[[], None]:
        """See `IEngine`."""
        number = self._hear(watcher)
        self._tell(encode(Watch(number, prefix, since)))
        return lambda: self._end(number)

    def take(self, bucket: str, want: int, minimum: int = 1, *, rate: float, burst: float) -> Deferred[Grant]:
        """See `IEngine`."""
        check_take(bucket, want, minimum, rate, burst)
        return self._send(Take(bucket, want, minimum, rate, burst), lambda value: Grant(*value))

    def give(self, bucket: str, count: int, *, rate: float) -> Deferred[None]:
        """See `IEngine`."""
        check_give(count, rate)
        return self._send(Give(bucket, count, rate))

    def publish(self, topic: str, payload: bytes) -> None:
        """See `IEngine`."""
        self._tell(encode(Publish(topic, payload)))

    def subscribe(self, topic: str, hearer: Callable[[bytes], None]) -> Callable[[], None]:
        """See `IEngine`."""
        check_name("topic", topic)
        number = self._hear(hearer)
        self._tell(encode(Subscribe(number, topic)))
        return lambda: self._end(number)

    def _hear(self, hearer: Callable[[Any], None]) -> int:
        if len(self._hearers) >= self._most:
            raise EngineFull(f"{self._most} watch or subscribe already")
        number = next(self._numbers)
        self._hearers[number] = hearer
        return number

    def _end(self, number: int) -> None:
        if self._hearers.pop(number, None) is not None:
            self._tell(encode(End(number)))

    def _send(self, question: Question, read: Callable[[Any], Any] = lambda value: value) -> Deferred[Any]:
        def answered(body: bytes) -> Any:
            answer = read_answer(body)
            if isinstance(answer, Done):
                return read(answer.value)
            raise raised(answer)

        return self._ask(encode(question)).addErrback(_gone).addCallback(answered)

    def _mirrored(self, prefix: str, news: KeyChange | KeySnapshot) -> None:
        mirror = self._mirror
        if isinstance(news, KeyChange):
            if news.value is None:
                mirror.pop(news.key, None)
            else:
                mirror[news.key] = Stored(news.value, news.revision)
            return
        for key in [key for key in mirror if key.startswith(prefix)]:
            del mirror[key]
        mirror.update(news.entries)
        if prefix in self._unsynced:
            self._unsynced.discard(prefix)
            if not self._unsynced:
                self.synced.callback(None)


def _stored(value: Any) -> Stored | None:
    return None if value is None else Stored(*value)


def _gone(failure: Failure) -> Any:
    if failure.check(CancelledError):
        # Nobody waits for the answer any more: that is no fault of the engine's.
        return failure
    raise EngineError(f"the engine cannot be reached: {failure.getErrorMessage()}") from failure.value
