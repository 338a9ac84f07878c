"""State that is shared: what an engine keeps, and what can be in the way."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import msgspec
from twisted.internet.defer import Deferred
from zope.interface import Interface


class Stored(NamedTuple):
    """A value, and the revision that its key was last changed at."""

    value: bytes
    revision: int


class Lease(msgspec.Struct, frozen=True):
    """A name that is held for a while.

    Attributes:
        name: what is held.
        owner: who holds it.
        revision: greater than that of every lease on the name before; a fence for what the owner does elsewhere.
        seconds: how long it is held from its registration, and from each renewal.
    """

    name: str
    owner: str
    revision: int
    seconds: float


class Grant(NamedTuple):
    """What became of a `take`.

    Attributes:
        granted: how many were taken; 0 if there were fewer than the minimum.
        retry_after: seconds until the minimum will be there, if nobody else takes; 0.0 where something was granted.
    """

    granted: int
    retry_after: float


class KeyChange(NamedTuple):
    """A key that was set, or has gone (its value is None)."""

    key: str
    value: bytes | None
    revision: int


class KeySnapshot(NamedTuple):
    """All there is under a prefix at a revision. What a watcher knew of the prefix before counts no more."""

    entries: Mapping[str, Stored]
    revision: int


class EngineError(Exception):
    """The engine cannot do it."""


class Conflict(EngineError):  # noqa: N818 - it reads as what it says
    """The key is not at the revision that was expected.

    Attributes:
        revision: the one that it is at; 0 where there is no such key.
    """

    def __init__(self, key: str, expected: int, revision: int) -> None:
        super().__init__(f"{key!r} is at revision {revision}, not at {expected}")
        self.revision = revision


class NameTaken(EngineError):  # noqa: N818
    """Somebody else holds the name.

    Attributes:
        owner: who does.
    """

    def __init__(self, name: str, owner: str) -> None:
        super().__init__(f"{name!r} is held by {owner!r}")
        self.owner = owner


class LeaseLost(EngineError):  # noqa: N818
    """The lease has run out, was released, or its name has been registered anew."""

    def __init__(self, lease: Lease) -> None:
        super().__init__(f"the lease of {lease.owner!r} on {lease.name!r} is over")


class EngineFull(EngineError):  # noqa: N818
    """There is no room: a bound has been reached. Nothing was changed."""


class NotDurable(EngineError):  # noqa: N818
    """The change holds in memory, but could not be written to where it outlives a restart. It is tried again."""


class IEngine(Interface):
    """Entries with revisions, names with leases, buckets of tokens, hints.

    What returns a Deferred may cost a round trip; `peek`, `watch`, `publish` and `subscribe` never do. Bad arguments
    raise ValueError at once; whatever else is in the way comes as an `EngineError` through the Deferred. Keys, names,
    buckets and topics are 1 to 512 bytes of UTF-8. Revisions grow with each change, also across restarts; none is 0.

    A key may be set under a lease or with an expiry. Names that are held are keys too, ``name/`` and the name, with
    the owner as their value: they can be watched and peeked at, but set by `register` alone.
    """

    def peek(key: str) -> Stored | None:
        """What this process knows of a key without asking: for the hot path.

        An embedded engine knows all. One elsewhere knows the prefixes that are watched here, as of the last change
        that came.
        """

    def get(key: str) -> Deferred[Stored | None]:
        """The entry under a key."""

    def put(
        key: str,
        value: bytes,
        *,
        expires: float | None = None,
        lease: Lease | None = None,
        expect: int | None = None,
        durable: bool = False,
    ) -> Deferred[int]:
        """Set a key.

        Args:
            key: the key.
            value: at most 64 KiB.
            expires: when it is forgotten, in seconds since the epoch; None for never. Never early: if the system's
                clock is set, both that clock and the time that has really passed must agree that it is over.
            lease: forget it when this lease is over; not together with `durable`.
            expect: the revision that the key must be at, 0 for no such key; None for whatever is there.
            durable: it outlives a restart, where the engine has a place for that. The Deferred then fires only when a
                process killed at that moment would not lose it, and so it does for a change to a durable entry.

        Returns:
            its new revision.

        Raises:
            Conflict, LeaseLost, EngineFull, NotDurable: through the Deferred. Only after the last has it changed.
        """

    def delete(key: str, *, expect: int | None = None) -> Deferred[bool]:
        """Forget a key; whether there was one. As durable as the entry was. Raises as `put`."""

    def register(name: str, owner: str, seconds: float) -> Deferred[Lease]:
        """Hold a name for a while. The same owner may register again: its earlier lease is over then.

        A holder counts its time from before it asked. Raises `NameTaken` or `EngineFull`, through the Deferred.
        """

    def renew(lease: Lease) -> Deferred[None]:
        """Hold the name for `Lease.seconds` from now. Raises `LeaseLost` through the Deferred."""

    def release(lease: Lease) -> Deferred[None]:
        """Give the name up, and what was set under the lease. A lease that is over already is left as it is."""

    def lookup(name: str) -> Deferred[Stored | None]:
        """Who holds a name: the owner in UTF-8, and the lease's revision."""

    def watch(
        prefix: str, watcher: Callable[[KeyChange | KeySnapshot], None], since: int | None = None
    ) -> Callable[[], None]:
        """Tell `watcher` of every change under a prefix, in order, each in a later turn of the reactor.

        Args:
            prefix: of keys.
            watcher: gets each change after `since`. Where the engine does not know them all any more, and where `since`
                is None, it gets a snapshot in their place, whenever that happens: no change is left out unsaid.
            since: the revision that the watcher knows the prefix at.

        Returns:
            what ends the watch.

        Raises:
            EngineFull: too many watch already.
        """

    def take(bucket: str, want: int, minimum: int = 1, *, rate: float, burst: float) -> Deferred[Grant]:
        """Take tokens out of a bucket that fills at `rate` a second up to `burst`, and is full at first.

        Args:
            bucket: which.
            want: how many at most.
            minimum: fewer than so many are not taken at all.
            rate: tokens a second.
            burst: the most that the bucket holds, at least `minimum`.

        Raises:
            EngineFull: through the Deferred: too many buckets are in use.
        """

    def give(bucket: str, count: int, *, rate: float) -> Deferred[None]:
        """Give back tokens that were taken and not used."""

    def publish(topic: str, payload: bytes) -> None:
        """Send a hint to those who subscribe now. It may be lost."""

    def subscribe(topic: str, hearer: Callable[[bytes], None]) -> Callable[[], None]:
        """Hear the hints of a topic, each in a later turn of the reactor; returns what ends it. Raises `EngineFull`."""
