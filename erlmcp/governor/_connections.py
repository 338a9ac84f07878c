"""How many connections a listener has, and from whom."""

from zope.interface import implementer

from erlmcp.interfaces import IConnectionLimits, Peer, WireLimits


@implementer(IConnectionLimits)
class ConnectionLimits:
    """Counts the connections of one listener and refuses those past its bounds.

    Peers without an address (unix sockets, stdio) are bounded by the listener alone.

    Args:
        wire: what each connection keeps by itself.
        connections: at once on the listener.
        per_address: at once from one address.

    Attributes:
        active: how many there are.
        refused: how many were refused, by the limit that they hit.
        floods: how many were ended since their client asked for too much.
    """

    def __init__(self, wire: WireLimits, *, connections: int = 20_000, per_address: int = 1_000) -> None:
        self.wire = wire
        self.active = 0
        self.refused = {"connections": 0, "per_address": 0}
        self.floods = 0
        self._connections = connections
        self._per_address = per_address
        self._by_host: dict[str, int] = {}

    def admit(self, peer: Peer) -> str | None:
        """See `IConnectionLimits`."""
        if self.active >= self._connections:
            self.refused["connections"] += 1
            return f"the listener has {self._connections} connections, which is its limit"
        if peer.host:
            count = self._by_host.get(peer.host, 0)
            if count >= self._per_address:
                self.refused["per_address"] += 1
                return f"the address {peer.host} has {self._per_address} connections, which is its limit"
            self._by_host[peer.host] = count + 1
        self.active += 1
        return None

    def flooded(self) -> int:
        """See `IConnectionLimits`."""
        self.floods += 1
        return self.floods

    def leave(self, peer: Peer) -> None:
        """See `IConnectionLimits`."""
        self.active -= 1
        if peer.host:
            count = self._by_host.get(peer.host, 0) - 1
            if count > 0:
                self._by_host[peer.host] = count
            else:
                self._by_host.pop(peer.host, None)
