"""Listening: ``subscriptions/listen``, and who hears of which change (2026-07-28, basic/patterns/subscriptions)."""

from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.defer import Deferred, DeferredList

from erlmcp.interfaces import Change, Complete, IExchange, IFollowing, Outcome, Request
from erlmcp.jsonrpc import encode_notification
from erlmcp.protocol import McpError, SubscriptionFilter, errors, notifications
from erlmcp.server._call import Call
from erlmcp.server._listener import Listener
from erlmcp.timing import Wheel

LISTS = (
    ("toolsListChanged", "tools"),
    ("promptsListChanged", "prompts"),
    ("resourcesListChanged", "resources"),
)
"""The filter's fields, and the kind of change that each is about."""


class Subscription(Listener):
    """A modern client's ``subscriptions/listen``.

    Attributes:
        ended: fires with its result.
        acknowledged: whether its client knows that it is heard; what happens before waits.
    """

    __slots__ = ("_exchange", "_id", "acknowledged", "ended")

    def __init__(
        self, exchange: IExchange, number: int | str, kinds: frozenset[str], uris: frozenset[str]
    ) -> None:
        super().__init__(kinds, uris)
        self.ended: Deferred[Outcome] | None = None
        self.acknowledged = False
        self._exchange = exchange
        self._id = number

    @property
    def congested(self) -> bool:
        """See `Listener`."""
        return not self.acknowledged or self._exchange.congested

    def acknowledge(self) -> None:
        """Say what it will be told of; and tell what has happened since it asked."""
        self.acknowledged = True
        accepted: dict[str, Any] = {field: True for field, kind in LISTS if kind in self.kinds}
        if self.uris:
            accepted["resourceSubscriptions"] = sorted(self.uris)
        self._exchange.notify(
            encode_notification(*notifications.subscriptions_acknowledged(accepted, self._id))
        )
        self.catch_up()

    def send(self, change: Change) -> None:
        """See `Listener`."""
        if change.kind == "updated":
            message = notifications.resource_updated(change.uri, self._id)
        else:
            message = notifications.list_changed(change.kind, self._id)
        self._exchange.notify(encode_notification(*message))

    def close(self) -> None:
        """End it from our side: what was late, the teardown (basic/patterns/cancellation), then the result."""
        if not self.acknowledged:
            self.acknowledge()
        self.flush()
        if self._exchange.headers is None:
            # One channel carries everything, so the end of this stream must be said. An HTTP stream just ends.
            self._exchange.notify(
                encode_notification(*notifications.cancelled(self._id, "the server ends this subscription"))
            )
        if self.ended is not None:
            self.ended.callback(Complete({"_meta": {notifications.SUBSCRIPTION_ID: self._id}}))


class Subscriptions:
    """All listeners of one server.

    Args:
        offered: gives the capability object that clients are told of.
        readable: whether a request's principal may read a URI that somebody answers.
        wheel: for catching up with slow readers.
        follow: sees to it that the updates of a resource are announced, as long as somebody listens to them.
        total: how many may listen at once.
        uris: how many resources one subscription may name.
    """

    def __init__(
        self,
        offered: Callable[[], dict[str, Any]],
        readable: Callable[[Request, str], bool],
        wheel: Wheel,
        follow: Callable[[str], IFollowing],
        *,
        total: int = 50_000,
        uris: int = 1_000,
    ) -> None:
        self._offered = offered
        self._readable = readable
        self._wheel = wheel
        self._follow = follow
        self._total = total
        self._most_uris = uris
        self._listeners: dict[Listener, None] = {}
        self._by_uri: dict[str, dict[Listener, None]] = {}
        self._followed: dict[str, IFollowing] = {}
        self._catching_up = False
        self._closed = False

    def __len__(self) -> int:
        return len(self._listeners)

    def listen(self, request: Request) -> Deferred[Outcome]:
        """Open a subscription: acknowledge it, then tell it of changes until it ends.

        Returns:
            A Deferred that fires with the result when this server ends the subscription, and whose cancellation is
            the client's end of it.

        Raises:
            McpError: no room, no stream to tell on, or too many resources.
        """
        call: Call = request.conversation  # type: ignore[assignment]
        if not call.exchange.streaming:
            raise McpError(
                errors.INVALID_PARAMS,
                "subscriptions/listen needs a stream: the Accept header must list text/event-stream",
                status=406,
            )
        self._make_room()
        kinds, uris = self._agree(request)
        subscription = Subscription(call.exchange, request.id, kinds, uris)
        subscription.ended = Deferred(lambda _: self.drop(subscription))
        if self._closed:
            # Its client is to listen with another process.
            subscription.close()
            return subscription.ended
        self.add(subscription)
        ready = self._ready(uris)
        if ready is None:
            subscription.acknowledge()
        else:
            ready.addCallback(lambda _: self._acknowledge(subscription))
        return subscription.ended

    def add(self, listener: Listener) -> None:
        """Tell a listener of changes from now on.

        Raises:
            McpError: there is no room.
        """
        if listener in self._listeners:
            return
        self._make_room()
        self._listeners[listener] = None
        for uri in listener.uris:
            self._note(listener, uri)

    def drop(self, listener: Listener) -> None:
        """Tell a listener no more."""
        self._listeners.pop(listener, None)
        for uri in listener.uris:
            self._forget(listener, uri)

    def watch(self, listener: Listener, request: Request, uri: str) -> "Deferred[None] | None":
        """Tell a listener of a resource's updates, too.

        Returns:
            None if it is told of them from now on; else what fires when it is.

        Raises:
            McpError: nobody answers this URI, the principal may not read it, or the listener has too many.
        """
        if not self._readable(request, uri):
            raise errors.resource_not_found(uri)
        if len(listener.uris) >= self._most_uris and uri not in listener.uris:
            raise errors.invalid_params(f"{self._most_uris} resources are subscribed to, which is the most")
        listener.uris.add(uri)
        if listener not in self._listeners:
            return None
        self._note(listener, uri)
        return self._ready((uri,))

    def unwatch(self, listener: Listener, uri: str) -> None:
        """Tell a listener of a resource's updates no more."""
        listener.uris.discard(uri)
        self._forget(listener, uri)

    def publish(self, change: Change) -> None:
        """Tell everybody who asked for this kind of change."""
        if change.everywhere:
            # To a listener it is the same change, and told once if it is late.
            change = Change(change.kind, change.uri)
        if change.kind == "updated":
            listeners = list(self._by_uri.get(change.uri, ()))
        else:
            listeners = [one for one in self._listeners if change.kind in one.kinds]
        for subscription in listeners:
            subscription.tell(change)
            if subscription.late:
                self._catch_up_later()

    def close(self) -> None:
        """End all subscriptions gracefully, and each that is begun from now on."""
        self._closed = True
        for subscription in list(self._listeners):
            self.drop(subscription)
            subscription.close()

    def rewatch(self, listener: Listener, uris: Iterable[str]) -> None:
        """Tell a listener of the updates of these resources, and of no others."""
        wanted = set(uris)
        for uri in listener.uris - wanted:
            self._forget(listener, uri)
        listener.uris = wanted
        if listener in self._listeners:
            for uri in listener.uris:
                self._note(listener, uri)

    def _agree(self, request: Request) -> tuple[frozenset[str], frozenset[str]]:
        wanted: SubscriptionFilter = request.params.notifications
        offered = self._offered()
        kinds = frozenset(
            kind for field, kind in LISTS if wanted.get(field) and offered.get(kind, {}).get("listChanged")
        )
        named = wanted.get("resourceSubscriptions", [])
        if len(named) > self._most_uris:
            raise errors.invalid_params(
                f"notifications.resourceSubscriptions names {len(named)} resources; the most is {self._most_uris}"
            )
        if not offered.get("resources", {}).get("subscribe"):
            return kinds, frozenset()
        return kinds, frozenset(uri for uri in named if self._readable(request, uri))

    def _make_room(self) -> None:
        if len(self._listeners) >= self._total:
            raise errors.overloaded(f"{self._total} subscriptions are open already; try again later")

    def _note(self, listener: Listener, uri: str) -> None:
        listeners = self._by_uri.get(uri)
        if listeners is None:
            self._by_uri[uri] = {listener: None}
            self._followed[uri] = self._follow(uri)
        else:
            listeners[listener] = None

    def _forget(self, listener: Listener, uri: str) -> None:
        listeners = self._by_uri.get(uri)
        if listeners is not None:
            listeners.pop(listener, None)
            if not listeners:
                del self._by_uri[uri]
                self._followed.pop(uri).end()

    def _ready(self, uris: Iterable[str]) -> "Deferred[None] | None":
        """None if the updates of these are heard of from now on; else what fires when they are."""
        waits = [wait for uri in uris if (wait := self._followed[uri].ready()) is not None]
        if not waits:
            return None
        return DeferredList(waits, consumeErrors=True).addCallback(lambda _: None)

    def _acknowledge(self, subscription: Subscription) -> None:
        if subscription in self._listeners:
            subscription.acknowledge()

    def _catch_up_later(self) -> None:
        if not self._catching_up:
            self._catching_up = True
            self._wheel.after(0.5, self._catch_up)

    def _catch_up(self) -> None:
        self._catching_up = False
        for subscription in list(self._listeners):
            subscription.catch_up()
            if subscription.late:
                self._catch_up_later()
