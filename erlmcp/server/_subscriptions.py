"""Listening: ``subscriptions/listen``, and who hears of which change (2026-07-28, basic/patterns/subscriptions)."""

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

from erlmcp.interfaces import Change, Complete, IExchange, Outcome, Request
from erlmcp.jsonrpc import encode_notification
from erlmcp.protocol import McpError, SubscriptionFilter, errors, notifications
from erlmcp.server._call import Call
from erlmcp.timing import Wheel

LISTS = (
    ("toolsListChanged", "tools"),
    ("promptsListChanged", "prompts"),
    ("resourcesListChanged", "resources"),
)
"""The filter's fields, and the kind of change that each is about."""


class Subscription:
    """One listener: what it wants to hear, and what it has yet to hear because it reads too slowly."""

    __slots__ = ("_exchange", "_id", "_late", "ended", "kinds", "uris")

    def __init__(
        self, exchange: IExchange, number: int | str, kinds: frozenset[str], uris: frozenset[str]
    ) -> None:
        self.kinds = kinds
        self.uris = uris
        self.ended: Deferred[Outcome] | None = None
        self._exchange = exchange
        self._id = number
        # Changes say only that something is new, so the same change twice is one: the set is bounded by the filter.
        self._late: dict[Change, None] = {}

    @property
    def late(self) -> bool:
        """Whether changes wait for the peer to read."""
        return bool(self._late)

    def tell(self, change: Change) -> None:
        """Send a change, or keep it for when the peer reads again."""
        if self._late or self._exchange.congested:
            self._late[change] = None
        else:
            self._send(change)

    def catch_up(self) -> None:
        """Send what was late, as far as the peer takes it."""
        while self._late and not self._exchange.congested:
            change = next(iter(self._late))
            del self._late[change]
            self._send(change)

    def close(self) -> None:
        """End it from our side: what was late, the teardown (basic/patterns/cancellation), then the result."""
        for change in self._late:
            self._send(change)
        self._late.clear()
        if self._exchange.headers is None:
            # One channel carries everything, so the end of this stream must be said. An HTTP stream just ends.
            self._exchange.notify(
                encode_notification(*notifications.cancelled(self._id, "the server ends this subscription"))
            )
        if self.ended is not None:
            self.ended.callback(Complete({"_meta": {notifications.SUBSCRIPTION_ID: self._id}}))

    def _send(self, change: Change) -> None:
        if change.kind == "updated":
            message = notifications.resource_updated(change.uri, self._id)
        else:
            message = notifications.list_changed(change.kind, self._id)
        self._exchange.notify(encode_notification(*message))


class Subscriptions:
    """All listeners of one server.

    Args:
        offered: gives the capability object that clients are told of.
        readable: whether a request's principal may read a URI that somebody answers.
        wheel: for catching up with slow readers.
        total: how many may listen at once.
        uris: how many resources one subscription may name.
    """

    def __init__(
        self,
        offered: Callable[[], dict[str, Any]],
        readable: Callable[[Request, str], bool],
        wheel: Wheel,
        *,
        total: int = 50_000,
        uris: int = 1_000,
    ) -> None:
        self._offered = offered
        self._readable = readable
        self._wheel = wheel
        self._total = total
        self._most_uris = uris
        self._listeners: dict[Subscription, None] = {}
        self._by_uri: dict[str, dict[Subscription, None]] = {}
        self._catching_up = False

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
        if len(self._listeners) >= self._total:
            raise errors.overloaded(f"{self._total} subscriptions are open already; try again later")
        kinds, uris = self._agree(request)
        subscription = Subscription(call.exchange, request.id, kinds, uris)
        accepted: dict[str, Any] = {field: True for field, kind in LISTS if kind in kinds}
        if uris:
            accepted["resourceSubscriptions"] = sorted(uris)
        call.exchange.notify(
            encode_notification(*notifications.subscriptions_acknowledged(accepted, request.id))
        )
        subscription.ended = Deferred(lambda _: self._drop(subscription))
        self._listeners[subscription] = None
        for uri in uris:
            self._by_uri.setdefault(uri, {})[subscription] = None
        return subscription.ended

    def publish(self, change: Change) -> None:
        """Tell everybody who asked for this kind of change."""
        if change.kind == "updated":
            listeners = list(self._by_uri.get(change.uri, ()))
        else:
            listeners = [one for one in self._listeners if change.kind in one.kinds]
        for subscription in listeners:
            subscription.tell(change)
            if subscription.late:
                self._catch_up_later()

    def close(self) -> None:
        """End all subscriptions gracefully."""
        for subscription in list(self._listeners):
            self._drop(subscription)
            subscription.close()

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

    def _drop(self, subscription: Subscription) -> None:
        self._listeners.pop(subscription, None)
        for uri in subscription.uris:
            listeners = self._by_uri.get(uri)
            if listeners is not None:
                listeners.pop(subscription, None)
                if not listeners:
                    del self._by_uri[uri]

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
