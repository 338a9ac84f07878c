"""Can others than this machine reach an address? Pure: from what is bound, or from what is about to be."""

import ipaddress
import re
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress

_LOCAL_NAMES = frozenset({"localhost", "localhost.localdomain", "ip6-localhost"})
# Where the interface stands when a description gives it without its name, as Twisted's parsers have it.
_INTERFACE = {"tcp": 1, "tcp6": 2, "ssl": 4, "tls": 3}


def reachable(address: Any) -> bool:
    """Whether others can reach a bound address.

    Args:
        address: an `IAddress`. Of a kind that is not known here, it counts as one that others can reach.
    """
    if isinstance(address, (IPv4Address, IPv6Address)):
        return not is_loopback(address.host)
    return not isinstance(address, UNIXAddress)


def is_loopback(host: str) -> bool:
    """Whether a host (address or name) is this machine's loopback. The empty host means every interface."""
    text = host.removeprefix("[").removesuffix("]").partition("%")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return text.lower() in _LOCAL_NAMES
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def endpoint_reachable(description: str) -> bool | None:
    r"""Whether others could reach a listener with this endpoint description.

    Args:
        description: as Twisted's `serverFromString` takes it, such as ``tcp:8765:interface=127.0.0.1``.

    Returns:
        None where the description alone does not say (``systemd:``, or a plugin's).
    """
    parts = [re.sub(r"\\(.)", r"\1", part) for part in re.split(r"(?<!\\):", description)]
    if parts[0] == "haproxy":
        parts = parts[1:] or [""]
    if parts[0] == "unix":
        return False
    if parts[0] not in _INTERFACE:
        return None
    given = [part.partition("=") for part in parts[1:]]
    named = [value for name, equals, value in given if equals and name == "interface"]
    positional = [name for name, equals, _ in given if not equals][_INTERFACE[parts[0]] :]
    return not is_loopback((named or positional or [""])[0])
