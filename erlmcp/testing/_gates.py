"""Gates that let everything through, but for the catalog's own: names and arguments are always checked."""

from zope.interface import implementer

from erlmcp.catalog import Catalog, ValidateGate, check_answer
from erlmcp.interfaces import IAdmission, IAuthorize, IGate, IRecord, Outcome, Principal, Request
from erlmcp.server import Gates


@implementer(IGate)
class Open:
    """Lets through."""

    def check(self, request: Request) -> None:
        """See `IGate`."""


@implementer(IAuthorize)
class OpenAuthorize(Open):
    """Lets through, and shows everything."""

    everything = True

    def shows(self, principal: Principal, method: str, name: str) -> bool:
        """See `IAuthorize`."""
        del principal, method, name
        return True


@implementer(IAdmission)
class OpenAdmission(Open):
    """Admits everything, and counts what is under way.

    Attributes:
        under_way: requests that have passed and not been released.
    """

    def __init__(self) -> None:
        self.under_way = 0

    def check(self, request: Request) -> None:
        """See `IGate`."""
        del request
        self.under_way += 1

    def release(self, request: Request) -> None:
        """See `IAdmission`."""
        del request
        self.under_way -= 1


@implementer(IRecord)
class Recorder:
    """Keeps what was recorded: the receipt's halves as (phase, method, name) and the error or outcome."""

    def __init__(self) -> None:
        self.intents: list[tuple[str, str]] = []
        self.outcomes: list[tuple[str, str, Outcome | BaseException | None]] = []

    def intent(self, request: Request) -> None:
        """See `IRecord`."""
        self.intents.append((request.method, request.name))

    def outcome(self, request: Request, outcome: Outcome | None, error: BaseException | None) -> None:
        """See `IRecord`."""
        self.outcomes.append((request.method, request.name, outcome if error is None else error))


def permissive_gates(catalog: Catalog) -> Gates:
    """The pipeline's gates for a test: nothing is refused but unknown names and wrong arguments."""
    return Gates(
        limits=Open(),
        authenticate=Open(),
        authorize=OpenAuthorize(),
        rate=Open(),
        validate=ValidateGate(catalog),
        admit=OpenAdmission(),
        record=Recorder(),
        check_answer=check_answer,
    )
