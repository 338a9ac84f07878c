"""Gate 3: may this principal use this method on this name?"""

from zope.interface import implementer

from erlmcp.interfaces import IAuthorize, Principal, Request


@implementer(IAuthorize)
class AuthorizeGate:
    """Without roles everybody who may connect may use, and sees, everything.

    Attributes:
        everything: that this is so.
    """

    __slots__ = ()

    everything = True

    def check(self, request: Request) -> None:
        """See `IGate`."""

    def shows(self, principal: Principal, method: str, name: str) -> bool:
        """See `IAuthorize`."""
        del principal, method, name
        return True
