"""Gate 2: whose is the request?"""

from zope.interface import implementer

from erlmcp.interfaces import ANONYMOUS, IGate, Principal, Request

_REMEMBERED = 1024


@implementer(IGate)
class AuthenticateGate:
    """Names the principal by the peer's uid where the kernel tells it; everybody else is anonymous."""

    __slots__ = ("_by_uid",)

    def __init__(self) -> None:
        self._by_uid: dict[int, Principal] = {}

    def check(self, request: Request) -> None:
        """See `IGate`."""
        uid = request.peer.uid
        request.principal = ANONYMOUS if uid is None else self._by_uid.get(uid) or self._remember(uid)

    def _remember(self, uid: int) -> Principal:
        if len(self._by_uid) >= _REMEMBERED:
            self._by_uid.clear()
        principal = self._by_uid[uid] = Principal(id=str(uid), kind="uid")
        return principal
