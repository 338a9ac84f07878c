"""Gates that let everything through, but for the catalog's own: names and arguments are always checked."""

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Clock
from zope.interface import implementer

from erlmcp.catalog import AnswerGate, Catalog, ValidateGate
from erlmcp.interfaces import ANONYMOUS, IAdmission, IAuthorize, IGate, IRecord, Outcome, Principal, Request
from erlmcp.server import Gates


@implementer(IGate)
class Open:
    """Lets through."""

    def check(self, request: Request) -> None:
        """See `IGate`."""


@implementer(IGate)
class ActAs:
    """Says whose each request is.

    Attributes:
        principal: the one; a test may change it at any time.
    """

    def __init__(self) -> None:
        self.principal = ANONYMOUS

    def check(self, request: Request) -> None:
        """See `IGate`."""
        request.principal = self.principal


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
        timeout: seconds that each request has from now on, None for no deadline.

    Args:
        clock: what deadlines are on.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self.under_way = 0
        self.timeout: float | None = None
        self._clock = clock

    def check(self, request: Request) -> None:
        """See `IGate`."""
        self.under_way += 1
        if self.timeout is not None:
            request.deadline = self._clock.seconds() + self.timeout

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


def permissive_gates(catalog: Catalog, clock: IReactorTime | None = None) -> Gates:
    """The pipeline's gates for a test: nothing is refused but unknown names and wrong arguments.

    Args:
        catalog: what is served.
        clock: what deadlines are on; a clock that stands still where none is given.
    """
    return Gates(
        limits=Open(),
        authenticate=ActAs(),
        authorize=OpenAuthorize(),
        rate=Open(),
        validate=ValidateGate(catalog),
        admit=OpenAdmission(clock or Clock()),
        record=Recorder(),
        check_answer=AnswerGate().check,
    )
