"""Gate 4: may it do so now? Rates and quotas are off unless configured, and cannot be configured yet."""

from zope.interface import implementer

from erlmcp.interfaces import IGate, Request


@implementer(IGate)
class RateGate:
    """No rate, no quota."""

    __slots__ = ()

    def check(self, request: Request) -> None:
        """See `IGate`."""
