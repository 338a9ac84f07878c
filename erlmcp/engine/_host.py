"""The engine's side for processes that it is not in: their questions answered, their watches kept."""

from collections.abc import Callable
from typing import Any, cast

import msgspec
from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from erlmcp.engine._messages import (
    CHANGING,
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
    failed,
    news_for,
    read_question,
    read_wish,
)
from erlmcp.interfaces import EngineError, IEngine

log = Logger()

PATIENCE = 1.0
"""Seconds that a change waits for processes that do not say that they have heard of it."""


class EngineHost:
    """Gives an engine to other processes.

    A change is answered once every process has heard of it, within a second: what a client was told of one worker
    is so with the next.

    Args:
        engine: the engine.
        clock: the reactor.
    """

    def __init__(self, engine: IEngine, clock: IReactorTime) -> None:
        self.engine = engine
        self.clock = clock
        self._unheard: dict[Deferred[Any], None] = {}

    def guest(self, say: Callable[[bytes], Deferred[Any]]) -> "Guest":
        """A process that is given the engine.

        Args:
            say: sends news; fires when they have been taken.
        """
        return Guest(self, say)

    def said(self, saying: Deferred[Any]) -> None:
        """News are on their way."""
        self._unheard[saying] = None
        saying.addBoth(lambda _: self._unheard.pop(saying, None))

    def heard(self) -> Deferred[Any]:
        """Fires when all has been heard that was said until now, or patience ends."""
        if not self._unheard:
            return succeed(None)
        enough: Deferred[None] = Deferred()
        timer = self.clock.callLater(PATIENCE, enough.callback, None)
        waiting: Deferred[Any] = DeferredList([_forked(one) for one in self._unheard])
        done: Deferred[Any] = DeferredList([waiting, enough], fireOnOneCallback=True)

        def over(_: Any) -> None:
            if timer.active():
                timer.cancel()

        done.addBoth(over)
        return done


class Guest:
    """One other process, as the engine sees it."""

    def __init__(self, host: EngineHost, say: Callable[[bytes], Deferred[Any]]) -> None:
        self._host = host
        self._say = say
        self._ends: dict[int, Callable[[], None]] = {}

    def asked(self, body: bytes) -> Deferred[bytes]:
        """Answer a question."""
        question = read_question(body)
        asking = self._ask(question)
        if isinstance(question, CHANGING):
            asking.addBoth(self._once_heard)
        return asking.addCallbacks(_done, _failed)

    def told(self, body: bytes) -> None:
        """Take a wish that needs no answer."""
        wish = read_wish(body)
        engine = self._host.engine
        try:
            if isinstance(wish, Publish):
                engine.publish(wish.topic, wish.payload)
            elif isinstance(wish, End):
                self._ends.pop(wish.number, lambda: None)()
            elif isinstance(wish, Watch):
                number = wish.number
                self._ends[number] = engine.watch(
                    wish.prefix, lambda news: self._send(news_for(number, news)), wish.since
                )
            elif isinstance(wish, Subscribe):
                number = wish.number
                self._ends[number] = engine.subscribe(
                    wish.topic, lambda payload: self._send(Heard(number, payload))
                )
        except EngineError as error:
            log.failure("a worker's wish cannot be met: {why}", why=str(error))

    def left(self) -> None:
        """The process has gone."""
        ends, self._ends = self._ends, {}
        for end in ends.values():
            end()

    def _send(self, news: msgspec.Struct) -> None:
        self._host.said(self._say(encode(news)))

    def _ask(self, question: Question) -> Deferred[Any]:
        engine = self._host.engine
        match question:
            case Get(key):
                return engine.get(key)
            case Put(key, value, expires, lease, expect, durable):
                return engine.put(key, value, expires=expires, lease=lease, expect=expect, durable=durable)
            case Delete(key, expect):
                return engine.delete(key, expect=expect)
            case Register(name, owner, seconds):
                return engine.register(name, owner, seconds)
            case Renew(lease):
                return engine.renew(lease)
            case Release(lease):
                return engine.release(lease)
            case Take(bucket, want, minimum, rate, burst):
                return engine.take(bucket, want, minimum, rate=rate, burst=burst)
            case Give(bucket, count, rate):
                return engine.give(bucket, count, rate=rate)

    def _once_heard(self, result: Any) -> Deferred[Any]:
        """Watchers are told in a later turn: this one is later still."""
        turn: Deferred[Any] = Deferred()
        self._host.clock.callLater(0, turn.callback, None)
        return turn.addCallback(lambda _: self._host.heard()).addCallback(lambda _: result)


def _forked(deferred: Deferred[Any]) -> Deferred[Any]:
    fork: Deferred[Any] = Deferred()

    def fired(result: Any) -> Any:
        fork.callback(None)
        return result

    deferred.addBoth(fired)
    return fork


def _done(value: Any) -> bytes:
    return encode(Done(value))


def _failed(failure: Failure) -> bytes:
    failure.trap(EngineError)
    return encode(failed(cast("EngineError", failure.value)))
