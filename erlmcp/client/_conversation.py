"""What is said over one wire: ids given out, answers matched to them, limits of time and number held.

It knows no era: what a request's parameters say, and what a notification means, is decided above.
"""

from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol

import msgspec
from msgspec import UNSET, Raw, UnsetType
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from erlmcp.client._errors import BadAnswer, Busy, ClientError, Disconnected, ServerError, TimedOut
from erlmcp.client._parts import read_problem, read_tied, read_withdrawn
from erlmcp.client._responses import Response, Responses
from erlmcp.client._wire import Outgoing, Wire, WireError
from erlmcp.interfaces import Pending
from erlmcp.jsonrpc import (
    Codec,
    Limits,
    MalformedMessage,
    Message,
    encode_error,
    encode_notification,
    encode_request,
    encode_result,
)
from erlmcp.timing import Entry, Wheel

Params = dict[str, Any] | Raw
Watch = Callable[[str, Raw], None]
"""Gets the method and the parameters of each notification that belongs to one request."""

log = Logger(namespace="erlmcp.client")

_NO_PARAMS: Final = Raw(b"{}")
_SPARE: Final = 64
"""Those that gave up waiting may stay in the queue, as many as wait and these."""


class Audience(Protocol):
    """Who hears what the server says by itself."""

    def notified(self, method: str, params: Raw, via: "Attempt | None") -> None:
        """A notification came; `via` is the request that it belongs to, where that can be told."""

    def asked(self, id: int | str, method: str, params: Raw, via: "Attempt | None") -> None:  # noqa: A002
        """A request came, to be answered with `Conversation.answer` or `Conversation.refuse`."""

    def puzzled(self, error: ClientError) -> None:
        """Something came that belongs to no request and is no message."""

    def lost(self, error: WireError) -> None:
        """The wire is gone; all that was under way fails next."""


class Attempt(Outgoing):
    """One request under way.

    Attributes:
        id: its JSON-RPC id, and its progress token.
        done: its raw result, or why there is none; cancelling it tells the server.
        watch: hears the notifications that belong to it.
        held: whether it has one of the places for requests under way.
        queued: whether it waits for one.
    """

    __slots__ = ("done", "ends", "entry", "heard", "held", "id", "queued", "timeout", "watch")

    def __init__(
        self,
        id: int,  # noqa: A002 - JSON-RPC's own name
        body: bytes,
        method: str,
        headers: tuple[tuple[bytes, bytes], ...],
        done: Pending[Raw],
        *,
        resumable: bool,
    ) -> None:
        super().__init__(body, method, headers, answered=True, resumable=resumable)
        self.id = id
        self.done = done
        self.entry: Entry | None = None
        self.heard = 0.0
        self.ends = 0.0
        self.timeout: float | None = None
        self.held = False
        self.queued = False
        self.watch: Watch | None = None

    def release(self) -> None:
        """It is over: let go of what it holds."""
        self.settled = True
        if self.entry is not None:
            self.entry.cancel()
            self.entry = None
        self.watch = None


class _Answer(Pending[Raw]):
    """The answer to a request, which it knows by its id alone: request and answer must not hold each other."""

    __slots__ = ("_conversation", "_id")

    def __init__(self, conversation: "Conversation", id: int) -> None:  # noqa: A002 - JSON-RPC's own name
        super().__init__()
        self._conversation = conversation
        self._id = id

    def stop(self) -> None:
        self._conversation.cancel(self._id)


class Conversation:
    """Requests to one server over one wire.

    Args:
        wire: the way there, not opened yet.
        wheel: for limits of time.
        clock: the reactor's time.
        audience: hears what the server says by itself.
        in_flight: how many requests may be under way at once; more wait for their turn.
        waiting: how many may wait; more fail with `Busy`.
        limits: the bounds of one message from the server.

    Attributes:
        by_notice: whether a cancelled request is told to the server with ``notifications/cancelled``; where not,
            its stream is closed, which says the same (basic/patterns/cancellation).
    """

    def __init__(
        self,
        wire: Wire,
        wheel: Wheel,
        clock: IReactorTime,
        audience: Audience,
        *,
        in_flight: int = 1000,
        waiting: int = 100_000,
        limits: Limits | None = None,
    ) -> None:
        self.wire = wire
        self.peer = wire.peer
        self.by_notice = True
        self._asking = 0
        self._asking_since = 0.0
        self._asked = 0.0  # seconds with a question open, until
        self._asked_until = 0.0
        self._wheel = wheel
        self._responses = Responses(wire, wheel, lambda: self._over is not None)
        self._clock = clock
        self._audience = audience
        self._bound = in_flight
        self._most_waiting = waiting
        self._decode = Codec(Raw, limits or Limits()).decode
        self._last_id = 0
        self._open: dict[int, Attempt] = {}
        self._counted = 0
        self._queue: deque[Attempt] = deque()  # those that waited; who gave up stays until its turn
        self._waiting = 0
        self._full = False
        self._over: WireError | None = None
        self._giving = False
        self._retired: Deferred[None] | None = None

    @property
    def asking(self) -> int:
        """How many of the server's questions are open. Meanwhile limits of time stand still."""
        return self._asking

    @asking.setter
    def asking(self, count: int) -> None:
        now = self._clock.seconds()
        if not self._asking:
            self._asking_since = now
        elif not count:
            self._asked += now - self._asking_since
            self._asked_until = now
        self._asking = count

    @property
    def under_way(self) -> int:
        """How many requests are under way or wait."""
        return len(self._open)

    def open(self) -> "Deferred[None]":
        """Open the wire; fails with `Disconnected`."""
        return self.wire.open(self).addErrback(self._not_opened)

    def _not_opened(self, failure: Any) -> None:
        failure.trap(WireError)
        self._over = failure.value
        raise Disconnected(self.peer, failure.value) from failure.value

    # what is said

    def next_id(self) -> int:
        """The id of the next request, for parameters that name it."""
        self._last_id += 1
        return self._last_id

    def request(
        self,
        id: int,  # noqa: A002 - JSON-RPC's own name
        method: str,
        params: Params,
        *,
        headers: tuple[tuple[bytes, bytes], ...] = (),
        watch: Watch | None = None,
        timeout: float | None = 60.0,
        longest: float = 600.0,
        resumable: bool = False,
    ) -> Attempt:
        """Send a request, or let it wait for its turn.

        Args:
            id: from `next_id`.
            method: the request's.
            params: the request's.
            headers: for HTTP.
            watch: hears the notifications that belong to it.
            timeout: seconds without an answer or progress until it fails with `TimedOut`; None for none, and for no
                bound of number either: such a request (a subscription) lasts.
            longest: seconds that it may take whatever progress it makes.
            resumable: see `Outgoing`.
        """
        attempt = Attempt(
            id, encode_request(id, method, params), method, headers, _Answer(self, id), resumable=resumable
        )
        if self._over is not None or self._retired is not None:
            attempt.release()
            why, tail = (self._over, self._over.tail) if self._over is not None else ("it is given up", "")
            error = WireError(f"the connection is gone: {why}", unsent=True, tail=tail)
            attempt.done.fail(Disconnected(self.peer, error))
            return attempt
        attempt.watch = watch
        attempt.timeout = timeout
        self._open[id] = attempt
        if timeout is None:
            self.wire.send(attempt)
            return attempt
        attempt.heard = now = self._clock.seconds()
        attempt.ends = now + longest - self._asked
        attempt.entry = self._wheel.after(min(timeout, longest), self._late, attempt)
        if self._counted < self._bound and not self._full:
            self._counted += 1
            attempt.held = True
            self.wire.send(attempt)
        elif self._waiting < self._most_waiting:
            self._waiting += 1
            attempt.queued = True
            self._queue.append(attempt)
        else:
            self._fail(attempt, Busy(self.peer, f"{self._most_waiting} calls wait for their turn already"))
        return attempt

    def notify(self, method: str, params: Params | UnsetType = UNSET) -> None:
        """Send a notification; nobody hears whether it arrives."""
        if self._over is None:
            self.wire.send(Outgoing(encode_notification(method, params), method))

    def answer(self, id: int | str, result: dict[str, Any]) -> None:  # noqa: A002 - JSON-RPC's own name
        """Answer a request of the server."""
        self._responses.send(encode_result(id, result))

    def refuse(self, id: int | str, code: int, message: str) -> None:  # noqa: A002 - JSON-RPC's own name
        """Answer a request of the server with an error."""
        self._responses.send(encode_error(id, code, message))

    def cancel(self, id: int) -> None:  # noqa: A002 - JSON-RPC's own name
        """A request's caller has cancelled its answer: tell the server, and wait for it no more."""
        attempt = self._open.get(id)
        if attempt is not None:
            self._withdraw(attempt, "cancelled")
            self._settle(attempt)

    def retire(self) -> "Deferred[None]":
        """Take no more requests, let those under way come to their end, and then close the wire.

        What has not left yet fails as unsent; so does what has no limit of time.

        Returns:
            What fires when the wire is closed.
        """
        if self._over is not None:
            return self.wire.close()
        if self._retired is None:
            retired: Deferred[None] = Deferred()
            self._retired = retired
            given_up = WireError("the connection is given up", unsent=True)
            for attempt in list(self._open.values()):
                if attempt.queued or attempt.timeout is None:
                    self._fail(attempt, Disconnected(self.peer, given_up))
            self._leave()
            return retired
        return self._retired

    def _leave(self) -> None:
        retired = self._retired
        if retired is not None and not self._open and self._over is None:
            self._over = WireError("the connection is given up", unsent=True)
            self.wire.close().addBoth(lambda _: retired.callback(None))

    def close(self) -> "Deferred[None]":
        """End it: what is under way fails, and the wire is closed."""
        if self._over is None:
            self._end(WireError("the client was closed"))
        return self.wire.close()

    # what is heard: the wire's inbox

    def received(self, data: bytes, via: Outgoing | None) -> None:
        """See `Inbox`."""
        attempt = via if isinstance(via, Attempt) else None
        try:
            message = self._decode(data)
        except MalformedMessage as bad:
            self._malformed(bad, attempt)
            return
        if message.method is UNSET:
            self._answered(message, attempt)
        elif message.id is UNSET:
            self._notified(message.method, _params(message), attempt)
        else:
            self._audience.asked(message.id, message.method, _params(message), attempt)

    def failed(self, outgoing: Outgoing, error: WireError) -> None:
        """See `Inbox`."""
        if isinstance(outgoing, Attempt) and outgoing.id in self._open:
            self._fail(outgoing, Disconnected(self.peer, error))
        elif isinstance(outgoing, Response):
            self._responses.failed(outgoing, error)

    def ended(self, outgoing: Outgoing) -> None:
        """See `Inbox`."""
        if isinstance(outgoing, Attempt) and outgoing.id in self._open:
            self._fail(outgoing, BadAnswer(self.peer, f"{outgoing.method} was left without an answer"))

    def lost(self, error: WireError) -> None:
        """See `Inbox`."""
        if self._over is None:
            # The audience first: whoever fails now may ask again, and not of a dead conversation.
            self._over = error
            self._audience.lost(error)
            self._end(error)

    def full(self, is_full: bool) -> None:
        """See `Inbox`."""
        self._full = is_full
        self._next()

    # inside

    def _end(self, error: WireError) -> None:
        self._over = error
        retired, self._retired = self._retired, None
        if retired is not None:
            retired.callback(None)
        self._queue.clear()
        unsent = WireError(str(error), unsent=True, tail=error.tail)
        for attempt in list(self._open.values()):
            cause = unsent if attempt.queued else error
            self._fail(attempt, Disconnected(self.peer, cause))

    def _answered(self, message: Message[Raw], via: Attempt | None) -> None:
        attempt = self._open.get(message.id) if type(message.id) is int else None
        if attempt is None:
            # An error without an id answers the request on whose stream it came (basic, "Error Responses").
            if message.id is not UNSET or via is None or via.id not in self._open:
                return  # late: whoever waited has gone
            attempt = via
        if message.error is UNSET and message.result is not UNSET:
            self._settle(attempt)
            attempt.done.succeed(message.result)
            return
        try:
            problem = read_problem(message.error if message.error is not UNSET else b"")
        except msgspec.DecodeError as bad:
            self._fail(attempt, BadAnswer(self.peer, f"{attempt.method}: an error that is none: {bad}"))
            return
        self._fail(
            attempt,
            ServerError(
                self.peer,
                attempt.method,
                problem.code,
                problem.message,
                problem.data,
                answered_with=attempt.status,
            ),
        )

    def _malformed(self, bad: MalformedMessage, via: Attempt | None) -> None:
        attempt = self._open.get(bad.id) if type(bad.id) is int else via
        method = "" if attempt is None else f"{attempt.method}: "
        error = BadAnswer(self.peer, f"{method}{bad.message}")
        if attempt is not None and attempt.id in self._open and bad.method is None:
            self._fail(attempt, error)
        else:
            self._audience.puzzled(error)

    def _notified(self, method: str, params: Raw, via: Attempt | None) -> None:
        if method == "notifications/cancelled" and via is None:
            self._withdrawn(params)
        if method == "notifications/progress" or via is None:
            try:
                tied = read_tied(params)
            except msgspec.DecodeError as bad:
                self._audience.puzzled(BadAnswer(self.peer, f"{method}: {bad}"))
                return
            key = tied.token
            if key is UNSET and tied.meta is not UNSET:
                key = tied.meta.subscription
            if type(key) is int:
                via = self._open.get(key, via)
        if via is not None:
            via.heard = self._clock.seconds()
            if via.watch is not None:
                try:
                    via.watch(method, params)
                except Exception:  # noqa: BLE001 - whoever listens to a call is not the wire's matter
                    log.failure("what listens to a request failed")
        self._audience.notified(method, params, via)

    def _withdrawn(self, params: Raw) -> None:
        """The server ends a subscription (2026-07-28, basic/patterns/cancellation); nothing else is its to end."""
        try:
            key = read_withdrawn(params).request_id
        except msgspec.DecodeError:
            return  # said by whoever reads it for the sender's questions, if at all
        attempt = self._open.get(key) if type(key) is int else None
        if attempt is not None and attempt.timeout is None:
            self._fail(attempt, Disconnected(self.peer, WireError("the server has ended the subscription")))

    def _late(self, attempt: Attempt) -> None:
        attempt.entry = None
        timeout = attempt.timeout or 0.0
        now = self._clock.seconds()
        ends = attempt.ends + self._asked + attempt.waited
        left = timeout
        if not self._asking and attempt.waits_since is None:
            heard = max(attempt.heard, self._asked_until, attempt.went_on)
            left = min(heard + timeout, ends) - now
        if left > 0:
            attempt.entry = self._wheel.after(left, self._late, attempt)
            return
        waited = f"{timeout:g} s" if now < ends else "the longest time that a call may take"
        self._withdraw(attempt, f"no answer within {waited}")
        self._fail(attempt, TimedOut(self.peer, f"{attempt.method}: no answer within {waited}"))

    def _withdraw(self, attempt: Attempt, reason: str) -> None:
        if attempt.queued or self._over is not None:
            return
        # Basic lifecycle of the handshake revisions: initialize is never cancelled.
        if self.by_notice and attempt.method != "initialize":
            self.notify("notifications/cancelled", {"requestId": attempt.id, "reason": reason})
        self.wire.abandon(attempt)

    def _settle(self, attempt: Attempt) -> None:
        del self._open[attempt.id]
        attempt.release()
        if self._retired is not None:
            self._leave()
        if attempt.queued:
            attempt.queued = False
            self._waiting -= 1
            if len(self._queue) > 2 * self._waiting + _SPARE:
                self._queue = deque(one for one in self._queue if one.queued)
        elif attempt.held:
            attempt.held = False
            self._counted -= 1
            if self._queue:
                self._next()

    def _fail(self, attempt: Attempt, error: Exception) -> None:
        if attempt.id in self._open:  # who hears of another's failure may have given this one up
            self._settle(attempt)
            attempt.done.fail(error)

    def _next(self) -> None:
        """Give places to those that wait."""
        if self._giving:
            return  # what fails at once gives its place back to the loop that is under way
        self._giving = True
        while self._queue and self._counted < self._bound and not self._full:
            attempt = self._queue.popleft()
            if attempt.queued:
                attempt.queued = False
                attempt.held = True
                self._waiting -= 1
                self._counted += 1
                self.wire.send(attempt)
        self._giving = False


def _params(message: Message[Raw]) -> Raw:
    return _NO_PARAMS if message.params is UNSET else message.params
