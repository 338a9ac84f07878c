"""Opaque cursors of paged lists (server/utilities/pagination)."""

from erlmcp.protocol._errors import McpError, invalid_params
from erlmcp.protocol._sealing import BadSeal, Sealer


class Cursors:
    """Makes and reads cursors: the last key of a page, sealed.

    A cursor opens only for the list that it was made for, and for the same binding: what one principal may
    see is not another's to page through.

    Args:
        sealer: a sealer of this purpose alone.
        lifetime: seconds that a cursor is good for.
    """

    __slots__ = ("_lifetime", "_sealer")

    def __init__(self, sealer: Sealer, lifetime: float = 3600.0) -> None:
        self._sealer = sealer
        self._lifetime = lifetime

    def next(self, kind: str, after: str, binding: bytes, now: float) -> str:
        """The cursor of the page that follows the key `after` in the list `kind`; `now` in seconds."""
        return self._sealer.seal(after.encode(), _bound(kind, binding), now + self._lifetime)

    def read(self, kind: str, cursor: str, binding: bytes, now: float) -> str:
        """The key that a cursor's page follows.

        Raises:
            McpError: -32602, the cursor is not one of this list's, or has expired.
        """
        try:
            return self._sealer.unseal(cursor, _bound(kind, binding), now).decode()
        except BadSeal:
            raise _invalid() from None


def _bound(kind: str, binding: bytes) -> bytes:
    list_name = kind.encode()
    return b"%d:%b%b" % (len(list_name), list_name, binding)


def _invalid() -> McpError:
    return invalid_params(
        "Invalid cursor: it is not of this list, or has expired; begin again without a cursor"
    )
