"""Who hears of changes, at the pace that the peer reads."""

from erlmcp.interfaces import Change


class Listener:
    """One listener: what it wants to hear, and what it has yet to hear because its peer reads too slowly.

    Attributes:
        kinds: the kinds of change that it hears of (see `erlmcp.interfaces.Change`).
        uris: the resources whose updates it hears of; the hub's to change.
    """

    __slots__ = ("_late", "kinds", "uris")

    def __init__(self, kinds: frozenset[str], uris: frozenset[str] = frozenset()) -> None:
        self.kinds = kinds
        self.uris = set(uris)
        # Changes say only that something is new, so the same change twice is one: the set is bounded by the filter.
        self._late: dict[Change, None] = {}

    @property
    def late(self) -> bool:
        """Whether changes wait for the peer to read."""
        return bool(self._late)

    @property
    def congested(self) -> bool:
        """Whether the peer reads too slowly."""
        raise AssertionError

    def send(self, change: Change) -> None:
        """Send a change."""
        raise AssertionError(change)

    def tell(self, change: Change) -> None:
        """Send a change, or keep it for when the peer reads again."""
        if self._late or self.congested:
            self._late[change] = None
        else:
            self.send(change)

    def catch_up(self) -> None:
        """Send what was late, as far as the peer takes it."""
        while self._late and not self.congested:
            change = next(iter(self._late))
            del self._late[change]
            self.send(change)

    def flush(self) -> None:
        """Send what was late, whether it is taken or not: there is no later."""
        late, self._late = self._late, {}
        for change in late:
            self.send(change)

    def close(self) -> None:
        """The server ends: say what is to be said."""
