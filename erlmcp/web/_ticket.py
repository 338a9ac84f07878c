"""One request on its way through queue and connections: the handle that its caller holds."""

from typing import Protocol

from twisted.logger import Logger

from erlmcp.web._types import Receiver, WebError, WebRequest

log = Logger()

ATTEMPTS = 4
"""How often a request is begun at most, where it was provably not acted on before."""


class Carrier(Protocol):
    """A connection, as a request under way sees it."""

    def cancel(self, ticket: "Ticket") -> None:
        """Nobody wants the answer."""

    def hold(self, ticket: "Ticket") -> None:
        """No more of the body for now."""

    def release(self, ticket: "Ticket") -> None:
        """More of the body again."""


class Queue(Protocol):
    """Where a request waits."""

    def withdraw(self, ticket: "Ticket") -> None:
        """It waits no longer."""


class Ticket:
    """A request, its receiver, and where it is. It is the `Ongoing` of its caller.

    Attributes:
        receiver: who hears of it; None once it has ended.
        carrier: the connection that it is on; None while it waits.
        attempts: how often it was begun.
        since: when it began to wait for what it waits for.
        paused: whether its caller wants no more for now.
        stream: HTTP/2's number for it.
        sent: how much of its body has left.
        consumed: HTTP/2: what has come since the stream's window was opened.
    """

    __slots__ = (
        "attempts",
        "carrier",
        "consumed",
        "paused",
        "queue",
        "receiver",
        "request",
        "sent",
        "since",
        "stream",
    )

    def __init__(self, request: WebRequest, receiver: Receiver, queue: Queue) -> None:
        self.request = request
        self.receiver: Receiver | None = receiver
        self.queue = queue
        self.carrier: Carrier | None = None
        self.attempts = 0
        self.since = 0.0
        self.paused = False
        self.stream = 0
        self.sent = 0
        self.consumed = 0

    def abort(self) -> None:
        """See `Ongoing.abort`."""
        if self.receiver is not None:
            self.receiver = None
            carrier, self.carrier = self.carrier, None
            if carrier is None:
                self.queue.withdraw(self)
            else:
                carrier.cancel(self)

    def pause(self) -> None:
        """See `Ongoing.pause`."""
        if not self.paused and self.receiver is not None:
            self.paused = True
            if self.carrier is not None:
                self.carrier.hold(self)

    def resume(self) -> None:
        """See `Ongoing.resume`."""
        if self.paused and self.receiver is not None:
            self.paused = False
            if self.carrier is not None:
                self.carrier.release(self)

    def finish(self) -> None:
        """The answer is complete. What the receiver raises is its own fault, and logged."""
        receiver, self.receiver = self.receiver, None
        self.carrier = None
        if receiver is not None:
            try:
                receiver.done()
            except Exception:  # noqa: BLE001 - one caller's fault is not another's
                log.failure("a receiver failed at the end of its answer")

    def fail(self, error: WebError) -> None:
        """There is no answer, or no more of it."""
        receiver, self.receiver = self.receiver, None
        self.carrier = None
        if receiver is not None:
            try:
                receiver.failed(error)
            except Exception:  # noqa: BLE001 - as above
                log.failure("a receiver failed at the failure of its request")
