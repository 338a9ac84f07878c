"""Gate 1: is the message within what its listener takes?"""

from collections.abc import Mapping

from zope.interface import implementer

from erlmcp.interfaces import IGate, Request
from erlmcp.protocol import errors


@implementer(IGate)
class LimitsGate:
    """Holds the size of messages, whatever transport they came by.

    Framing and parsing have bounds of their own, far cheaper; this one holds for a transport plugin without them.

    Args:
        sizes: the largest message in bytes, by the listener's name.
        default: for listeners that are not named.
    """

    __slots__ = ("_default", "_sizes")

    def __init__(self, sizes: Mapping[str, int], default: int) -> None:
        self._sizes = dict(sizes)
        self._default = default

    def check(self, request: Request) -> None:
        """See `IGate`."""
        largest = self._sizes.get(request.peer.listener, self._default)
        if request.size > largest:
            raise errors.invalid_request(f"the message has {request.size} bytes; at most {largest} are taken")
