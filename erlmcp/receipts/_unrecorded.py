"""No receipts: what the pipeline is given where none are configured. Counting is telemetry's, not done here."""

from zope.interface import implementer

from erlmcp.interfaces import IRecord, Outcome, Request


@implementer(IRecord)
class Unrecorded:
    """Records nothing and holds nobody up."""

    __slots__ = ()

    def intent(self, request: Request) -> None:
        """See `IRecord`."""

    def outcome(self, request: Request, outcome: Outcome | None, error: BaseException | None) -> None:
        """See `IRecord`."""
