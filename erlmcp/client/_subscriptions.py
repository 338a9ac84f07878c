"""Hearing of changes, in either era: ``subscriptions/listen``, or what the handshake revisions have instead of it."""

from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct
from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger
from twisted.python.failure import Failure

from erlmcp.client._conversation import Attempt
from erlmcp.client._edges import Edge
from erlmcp.client._errors import ServerError
from erlmcp.protocol import errors

log = Logger(namespace="erlmcp.client")

_PASSING: Final = frozenset((errors.OVERLOADED, errors.RATE_LIMITED, errors.SHUTTING_DOWN))
_BUSY: Final = frozenset((429, 500, 502, 503, 504))
_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode
_ACKNOWLEDGED: Final = "notifications/subscriptions/acknowledged"
_UPDATED: Final = "notifications/resources/updated"
_KINDS: Final = {f"notifications/{kind}/list_changed": kind for kind in ("tools", "prompts", "resources")}


class Change(Struct, frozen=True):
    """The list of `kind` changed (``tools``, ``prompts``, ``resources``), or a ``resource``, whose `uri` it is."""

    kind: str
    uri: str | None = None


class Subscription:
    """What one caller wants to hear of; kept up over reconnections until `close`.

    After a gap everything that was subscribed to counts as changed, since nobody knows what was missed.

    Attributes:
        kinds: the lists.
        uris: the resources.
        acknowledged: fires once the server says what it honours, with that filter; in the handshake revisions with
            what its capabilities promise. It fails if the server refuses.
    """

    def __init__(
        self,
        kinds: Iterable[str],
        uris: Iterable[str],
        on_change: Callable[[Change], None],
        close: Callable[["Subscription"], None],
        on_refused: Callable[[Any], None] | None = None,
    ) -> None:
        self.kinds = frozenset(kinds)
        self.uris = frozenset(uris)
        unknown = self.kinds - set(_KINDS.values())
        if unknown:
            raise ValueError(
                f"no such list: {', '.join(sorted(unknown))}; there are tools, prompts and resources"
            )
        self.acknowledged: Deferred[dict[str, Any]] = Deferred()
        self._on_change = on_change
        self._on_refused = on_refused
        self._close = close
        self.attempt: Attempt | None = None
        self.interrupted = False

    @property
    def filter(self) -> dict[str, Any]:
        """As ``subscriptions/listen`` puts it."""
        wanted: dict[str, Any] = {f"{kind}ListChanged": True for kind in sorted(self.kinds)}
        if self.uris:
            wanted["resourceSubscriptions"] = sorted(self.uris)
        return wanted

    def close(self) -> None:
        """Hear no more."""
        self._close(self)

    def tell(self, change: Change) -> None:
        """Pass a change on, if it is one that is wanted."""
        if change.uri in self.uris if change.kind == "resource" else change.kind in self.kinds:
            try:
                self._on_change(change)
            except Exception:  # noqa: BLE001 - a listener's failure is not the wire's
                log.failure("what listens to changes failed")

    def honoured(self, accepted: dict[str, Any]) -> None:
        """The server listens; after a gap, tell that anything may have changed."""
        if not self.acknowledged.called:
            self.acknowledged.callback(accepted)
        if self.interrupted:
            self.interrupted = False
            for kind in sorted(self.kinds):
                self.tell(Change(kind))
            for uri in sorted(self.uris):
                self.tell(Change("resource", uri))

    def refused(self, error: Any) -> None:
        """The server does not listen, or does not any more after a gap; this ends it."""
        if not self.acknowledged.called:
            self.acknowledged.errback(error)
        elif self._on_refused is not None:
            self._on_refused(error)
        else:
            log.warn("the server does not tell of changes any more: {error}", error=error.value)  # noqa: G010 - Twisted's name


def change_of(method: str, params: Raw) -> Change | None:
    """What a notification says has changed; None if it is about something else, or cannot be read."""
    kind = _KINDS.get(method)
    if kind is not None:
        return Change(kind)
    if method != _UPDATED:
        return None
    try:
        uri = _decode(params).get("uri")
    except msgspec.DecodeError:
        return None
    return Change("resource", uri) if isinstance(uri, str) else None


class Subscriptions:
    """All that one client listens to.

    Args:
        wanted: called when one has no stream: somebody has to see to a connection, and call `connected`.
    """

    def __init__(self, wanted: Callable[[], None]) -> None:
        self._all: dict[Subscription, None] = {}
        self._wanted = wanted
        self._edge: Edge | None = None
        self._counts: dict[str, int] = {}
        self._missed: dict[Subscription, None] = {}

    def __bool__(self) -> bool:
        return bool(self._all)

    def add(
        self,
        kinds: Iterable[str],
        uris: Iterable[str],
        on_change: Callable[[Change], None],
        on_refused: Callable[[Any], None] | None = None,
    ) -> Subscription:
        """Listen, as soon as there is an edge.

        Args:
            kinds: the lists.
            uris: the resources.
            on_change: hears of changes.
            on_refused: called with the failure if the server listened, and refuses to after a gap.
        """
        one = Subscription(kinds, uris, on_change, self._closed, on_refused)
        self._all[one] = None
        if self._edge is not None:
            self._listen(one, self._edge)
        else:
            self._wanted()
        return one

    def connected(self, edge: Edge) -> None:
        """There is an edge (again), or one that stands has ended some streams."""
        if edge is self._edge and not edge.asks_again:
            # Everybody has been seen to, but those for whom the server was not reached.
            missed, self._missed = self._missed, {}
            for one in missed:
                if one in self._all:
                    self._listen_handshake(one, edge, again=True)
            return
        self._edge = edge
        self._counts = {}
        self._missed = {}
        for one in list(self._all):
            if one.attempt is None:
                self._listen(one, edge)

    def disconnected(self) -> None:
        """The edge is gone."""
        self._edge = None
        for one in self._all:
            one.attempt = None
            one.interrupted = True

    def heard(self, method: str, params: Raw) -> None:
        """A notification came that belongs to no request: the handshake revisions' way."""
        change = change_of(method, params)
        if change is not None:
            for one in list(self._all):
                one.tell(change)

    def close(self) -> None:
        """The client ends."""
        for one in list(self._all):
            self._closed(one)

    def _listen(self, one: Subscription, edge: Edge) -> None:
        if edge.asks_again:
            self._listen_modern(one, edge)
        else:
            self._listen_handshake(one, edge)

    def _listen_modern(self, one: Subscription, edge: Edge) -> None:
        def watch(method: str, params: Raw) -> None:
            if method == _ACKNOWLEDGED:
                try:
                    accepted = _decode(params).get("notifications")
                except msgspec.DecodeError:
                    accepted = None
                one.honoured(accepted if isinstance(accepted, dict) else {})
                return
            change = change_of(method, params)
            if change is not None:
                one.tell(change)

        def ended(_: Any) -> None:
            # Gracefully or not: the server no longer listens. Another edge, or this one after a pause, will.
            if one.attempt is attempt:
                one.attempt = None
                one.interrupted = True
                self._wanted()

        def failed(error: BaseException) -> None:
            if _is_final(error) and one.attempt is attempt:
                self._all.pop(one, None)
                one.attempt = None
                one.refused(Failure(error))
            else:
                ended(None)

        attempt = edge.request(
            "subscriptions/listen", {"notifications": one.filter}, watch=watch, timeout=None
        )
        one.attempt = attempt
        attempt.done.then(ended, failed)

    def _listen_handshake(self, one: Subscription, edge: Edge, *, again: bool = False) -> None:
        server = edge.server
        asked = []
        accepted: dict[str, Any] = {
            f"{kind}ListChanged": True for kind in sorted(one.kinds) if server.offers(kind, "listChanged")
        }
        if one.uris and server.offers("resources", "subscribe"):
            accepted["resourceSubscriptions"] = sorted(one.uris)
            for uri in sorted(one.uris):
                self._counts[uri] = self._counts.get(uri, 0) + (not again)
                if again or self._counts[uri] == 1:
                    asked.append(edge.request("resources/subscribe", {"uri": uri}).done.deferred())
        # Over HTTP what is asked next may overtake it.
        DeferredList(asked, consumeErrors=True).addCallback(self._subscribed, one, edge, accepted)

    def _subscribed(self, outcomes: Any, one: Subscription, edge: Edge, accepted: dict[str, Any]) -> None:
        if self._edge is not edge or one not in self._all:
            return
        failures = [result for good, result in outcomes if not good]
        for failure in failures:
            log.warn("resources/subscribe: {error}", error=failure.value)  # noqa: G010 - Twisted's
        if all(_is_final(failure.value) for failure in failures):
            one.honoured(accepted)
        else:
            # Over HTTP the connection may break, and the edge stay.
            one.interrupted = True
            self._missed[one] = None
            self._wanted()

    def _closed(self, one: Subscription) -> None:
        if one not in self._all:
            return
        del self._all[one]
        attempt, one.attempt = one.attempt, None
        if attempt is not None:
            attempt.done.cancel()
        elif self._edge is not None and not self._edge.asks_again:
            for uri in one.uris:
                if self._counts.get(uri, 0) > 0:
                    self._counts[uri] -= 1
                    if not self._counts[uri]:
                        done = self._edge.request("resources/unsubscribe", {"uri": uri}).done
                        done.then(_unsubscribed, _unsubscribed_not)
        if not one.acknowledged.called:
            one.acknowledged.cancel()
            one.acknowledged.addErrback(lambda _: None)


def _is_final(error: BaseException) -> bool:
    """Whether asking again would be answered the same."""
    if not isinstance(error, ServerError):
        return False
    return error.code not in _PASSING and error.answered_with not in _BUSY


def _unsubscribed(_: object) -> None:
    """That is all."""


def _unsubscribed_not(error: BaseException) -> None:
    log.debug("resources/unsubscribe: {error}", error=error)
