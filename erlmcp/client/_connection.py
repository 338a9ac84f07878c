"""One server, connected when it is needed and again when it was lost: an edge for whoever has something to say."""

from collections.abc import Callable

from msgspec import Raw
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from erlmcp.client._answers import Answering
from erlmcp.client._backoff import Backoff
from erlmcp.client._conversation import Attempt, Conversation
from erlmcp.client._edges import Edge
from erlmcp.client._errors import Busy, ClientError, Disconnected
from erlmcp.client._opening import Opening
from erlmcp.client._questions import LiveQuestions
from erlmcp.client._subscriptions import Subscriptions
from erlmcp.client._wire import WireError
from erlmcp.jsonrpc import METHOD_NOT_FOUND

log = Logger(namespace="erlmcp.client")

Notified = Callable[[str, Raw, Attempt | None], None]


class Connection:
    """Keeps one edge: opened by the first who needs it, shared by all, opened anew after a loss.

    After a failure, who asks within the pause that `backoff` gives hears of that failure at once. While somebody
    subscribes, the connection is opened again by itself.

    Args:
        peer: the server's name.
        opening: opens edges.
        answers: who answers the server's questions.
        clock: the reactor's time.
        backoff: the pauses between attempts.
        notified: hears every notification.

    Attributes:
        edge: the edge that stands; None for none.
        subscriptions: what is listened to.
        on_lost: called with the reason when the edge is lost; None for nobody.
    """

    def __init__(
        self,
        peer: str,
        opening: Opening,
        answers: Answering,
        clock: IReactorTime,
        backoff: Backoff,
        notified: Notified,
    ) -> None:
        self.peer = peer
        self.edge: Edge | None = None
        self.subscriptions = Subscriptions(self._wanted)
        self.on_lost: Callable[[WireError], None] | None = None
        self._opening = opening
        self._answers = answers
        self._clock = clock
        self._backoff = backoff
        self._notified = notified
        self._met: list[Conversation] = []
        self._retired: dict[Conversation, None] = {}
        self._waiters: dict[Deferred[Edge], None] = {}
        self._under_way: Deferred[Edge] | None = None
        self._failures = 0
        self._since = 0.0
        self._short_lives = 0
        self._not_before = 0.0
        self._last = ""
        self._puzzles = 0
        self._again: IDelayedCall | None = None
        self._questions: LiveQuestions | None = None
        self._ending = False
        self._closed: Deferred[None] = Deferred()

    @property
    def failures(self) -> int:
        """How many attempts in a row have failed; 0 while it is connected."""
        return self._failures

    def connected(self) -> "Deferred[Edge]":
        """The edge, opened if it has to be. Fails with `ClientError`."""
        waiter: Deferred[Edge] = Deferred(self._gave_up)
        if self._ending:
            waiter.errback(Disconnected(self.peer, WireError("the client is closed", unsent=True)))
        elif self.edge is not None:
            waiter.callback(self.edge)
        elif len(self._waiters) >= self._opening.waiting:
            waiter.errback(Busy(self.peer, f"{len(self._waiters)} calls wait for the connection already"))
        elif self._under_way is None and self._clock.seconds() < self._not_before:
            waiter.errback(self._too_soon())
        else:
            self._waiters[waiter] = None
            if self._under_way is None:
                self._open()
        return waiter

    def drop(self, edge: Edge) -> None:
        """An edge has proved to be wrong or dead: open another when one is needed.

        What is under way on it comes to its own end: the server may answer it yet, or refuse it, so that it is known
        that it was not executed.
        """
        if self.edge is edge:
            self._gone()
            conversation = edge.conversation
            self._retired[conversation] = None
            self._met = []
            conversation.retire().addBoth(lambda _: self._retired.pop(conversation, None))

    def close(self) -> "Deferred[None]":
        """End it all; fires when the wire is closed."""
        if not self._ending:
            self._ending = True
            self._closed = Deferred.fromCoroutine(self._close())
        return self._closed

    async def _close(self) -> None:
        self.subscriptions.close()
        if self._again is not None:
            self._again.cancel()
            self._again = None
        if self._under_way is not None:
            self._under_way.cancel()
        self._gone()
        for conversation in (*self._met, *self._retired):
            await conversation.close()
        self._met.clear()

    # opening

    def _open(self) -> None:
        hearing = _Hearing(self)
        self._under_way = opening = Deferred.fromCoroutine(self._opening.open(hearing, self._meet))
        opening.addCallbacks(self._opened, self._not_opened, callbackArgs=(hearing,))

    def _opened(self, edge: Edge, hearing: "_Hearing") -> None:
        self._under_way = None
        self._failures = 0
        self._last = ""
        self._since = self._clock.seconds()
        self.edge = edge
        hearing.edge = edge
        self._met = [edge.conversation]
        self._questions = LiveQuestions(edge.conversation, self._answers)
        waiters, self._waiters = self._waiters, {}
        for waiter in waiters:
            waiter.callback(edge)
        if self.edge is edge:
            self.subscriptions.connected(edge)

    def _meet(self, conversation: Conversation) -> None:
        self._met = [conversation]

    def _not_opened(self, failure: Failure) -> None:
        self._under_way = None
        if failure.check(CancelledError):
            error: BaseException = Disconnected(self.peer, WireError("the client was closed", unsent=True))
        else:
            error = failure.value  # type: ignore[assignment]
            if not failure.check(ClientError):
                log.failure("opening a connection failed", failure)
        self._failures += 1
        self._last = str(error)
        pause = self._backoff.delay(self._failures)
        self._not_before = self._clock.seconds() + pause
        waiters, self._waiters = self._waiters, {}
        for waiter in waiters:
            waiter.errback(error)
        if self.subscriptions:
            log.warn("{error}; trying again in {pause:.1f} s", error=error, pause=pause)  # noqa: G010 - Twisted's name
            self._wanted()

    def _too_soon(self) -> ClientError:
        pause = self._not_before - self._clock.seconds()
        wire = WireError(f"not tried again for {pause:.1f} s after: {self._last}", unsent=True)
        return Disconnected(self.peer, wire)

    def _gave_up(self, waiter: "Deferred[Edge]") -> None:
        self._waiters.pop(waiter, None)

    def _wanted(self, least: float = 0.0) -> None:
        """Somebody subscribes and has no stream."""
        if not self._ending and self._again is None:
            pause = max(self._not_before - self._clock.seconds(), least)
            if self.edge is not None:
                pause = max(pause, self._backoff.delay(1))
            self._again = self._clock.callLater(pause, self._renew)

    def _renew(self) -> None:
        self._again = None
        if not self.subscriptions:
            return
        if self.edge is None:
            if self._under_way is None:
                self._open()
        else:
            self.subscriptions.connected(self.edge)

    # losing

    def _gone(self) -> None:
        self.edge = None
        if self._questions is not None:
            self._questions.close()
            self._questions = None
        self.subscriptions.disconnected()

    def heard_lost(self, edge: Edge | None, error: WireError) -> None:
        """A conversation is over; it may be one that is no longer of interest."""
        if edge is not None and edge is self.edge:
            log.info("{peer}: connection lost: {error}", peer=self.peer, error=error)
            self._gone()
            # A server that dies as soon as it has greeted must not be called back at once, for ever.
            short = self._clock.seconds() - self._since < self._backoff.longest
            self._short_lives = self._short_lives + 1 if short else 0
            if self.on_lost is not None:
                self.on_lost(error)
            if self.subscriptions:
                self._wanted(self._backoff.delay(self._short_lives - 1))

    def heard_notification(self, edge: Edge | None, method: str, params: Raw, via: Attempt | None) -> None:
        """See `Audience.notified`."""
        if method == "notifications/cancelled" and self._questions is not None:
            self._questions.withdrawn(params)
        elif edge is not None and not edge.asks_again:
            self.subscriptions.heard(method, params)
        self._notified(method, params, via)

    def heard_question(
        self, edge: Edge | None, identifier: int | str, method: str, params: Raw, via: Attempt | None
    ) -> bool:
        """See `Audience.asked`; False if nobody can answer."""
        if self._questions is None or edge is None or edge is not self.edge or edge.asks_again:
            return False
        self._questions.asked(identifier, method, params, via)
        return True

    def heard_nonsense(self, what: str) -> None:
        """Report what makes no sense: the first of it, then ever less, for there is no end to some."""
        self._puzzles += 1
        if self._puzzles.bit_count() == 1:
            log.warn("{what} ({count} so far)", what=what, count=self._puzzles)  # noqa: G010 - Twisted's name

    def heard_early(self, id: int | str, method: str) -> bool:  # noqa: A002 - JSON-RPC's own name
        """Whether a question was answered that came before the edge stands: a handshake server may ping at any time."""
        if method != "ping" or not self._met or not self._met[-1].by_notice:
            return False
        self._met[-1].answer(id, {})
        return True


class _Hearing:
    """The audience of one conversation."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.edge: Edge | None = None

    def notified(self, method: str, params: Raw, via: Attempt | None) -> None:
        self._connection.heard_notification(self.edge, method, params, via)

    def asked(self, id: int | str, method: str, params: Raw, via: Attempt | None) -> None:  # noqa: A002
        if self.edge is None and self._connection.heard_early(id, method):
            return
        if not self._connection.heard_question(self.edge, id, method, params, via) and self.edge is not None:
            # A modern server does not ask; on HTTP there is no way to answer it at all.
            self._connection.heard_nonsense(f"{self._connection.peer} asks {method[:200]}, which it may not")
            if not self.edge.asks_again or not self.edge.conversation.wire.linked:
                self.edge.conversation.refuse(id, METHOD_NOT_FOUND, f"Method not found: {method[:200]}")

    def puzzled(self, error: ClientError) -> None:
        self._connection.heard_nonsense(str(error))

    def lost(self, error: WireError) -> None:
        self._connection.heard_lost(self.edge, error)
