"""Requests to addresses that a server named: only to the public Internet, unless it is said otherwise (SSRF)."""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

LOOPBACK: Final = ("127.0.0.0/8", "::1/128")
"""What to allow for an authorization server on this machine."""

_NAT64: Final = IPv6Network("64:ff9b::/96")
# Beyond this nothing was ever given out to be public (RFC 4291, 2.4), but there are ways to IPv4 (RFC 8215, RFC 7915)
# and networks that are somebody's own; which of them `ipaddress` knows differs by Python's version.
_PUBLIC: Final = IPv6Network("2000::/3")
_SPECIAL: Final = (
    IPv4Network("192.0.0.0/24"),
    IPv4Network("192.88.99.0/24"),
    IPv6Network("3fff::/20"),
)


class AddressGuard:
    """Decides about each address that a name resolved to, before it is connected to.

    Args:
        allow: networks that may be reached although they are not public, such as `LOOPBACK` or ``10.0.0.0/8``.

    Raises:
        ValueError: one of them is no network.
    """

    def __init__(self, allow: Iterable[str] = ()) -> None:
        self._allowed = [ip_network(network) for network in allow]

    def admit(self, address: str) -> None:
        """Raise `ValueError` if an address must not be reached, saying how it could be allowed."""
        real = _real(ip_address(address.partition("%")[0]))
        if _is_public(real):
            return
        if not any(_within(real, network) for network in self._allowed):
            raise ValueError(
                f"{address} is no public address: allow its network if it is meant to be reached"
            )


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    if not address.is_global or address.is_multicast:
        return False
    if isinstance(address, IPv6Address) and address not in _PUBLIC:
        return False
    return not any(_within(address, network) for network in _SPECIAL)


def _within(address: IPv4Address | IPv6Address, network: IPv4Network | IPv6Network) -> bool:
    return address.version == network.version and address in network


def _real(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address that an IPv6 address leads to (mapped, 6to4, NAT64), if it is one of those."""
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is not None:
            return inner
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFFFFFF)
    return address
