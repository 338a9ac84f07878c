"""Parked work: what waits for a client's retry, and the sealed tickets that lead back to it.

A ticket (``requestState``, revision 2026-07-28, basic/patterns/mrtr) names the owner and the parked work, or carries
a backend's own state. It is bound to principal, method, name and arguments, expires, and a parked work's is used once.
The owner stands before it in the clear as well, so that another worker knows whose it is; the seal alone is believed.
"""

import hashlib
import secrets
from collections import Counter
from collections.abc import Callable

import msgspec

from erlmcp.interfaces import Outcome, Pending, Request
from erlmcp.protocol import BadSeal, McpError, Sealer, errors
from erlmcp.server._call import Call, answers_of
from erlmcp.server._running import Running
from erlmcp.timing import Entry, Wheel


class Ticket(msgspec.Struct, array_like=True):
    """What a ``requestState`` says, once unsealed: parked work by its owner and number, or a backend's own state."""

    owner: str
    park: str
    state: str | None = None


class Parked(msgspec.Struct):
    """One parked work, its principal and its time limit."""

    running: Running
    principal: str
    limit: Entry


class Parking:
    """Where work waits for its client.

    Args:
        sealer: the key ring's sealer for ``requestState``.
        wheel: for the time limits.
        wall_clock: seconds since the epoch; a ticket's expiry must mean the same after a restart.
        owner: this worker's name.
        limit: seconds that work stays parked.
        per_principal, total: how many works may be parked at once.

    Attributes:
        awaited: the retries that must come back to this process although nothing of them waits here, each with its time
            limit; as many as may be parked, and no more are waited for.
    """

    def __init__(
        self,
        sealer: Sealer,
        wheel: Wheel,
        wall_clock: Callable[[], float],
        *,
        owner: str = "",
        limit: float = 600.0,
        per_principal: int = 100,
        total: int = 10_000,
    ) -> None:
        self._sealer = sealer
        self._wheel = wheel
        self._wall_clock = wall_clock
        self._limit = limit
        self._per_principal = per_principal
        self._total = total
        self._owner = owner or secrets.token_hex(8)
        self._parked: dict[str, Parked] = {}
        self._counts: Counter[str] = Counter()
        self.awaited: dict[str, Entry] = {}

    def __len__(self) -> int:
        return len(self._parked)

    def park(self, running: Running, request: Request) -> str:
        """Keep the work until its retry, at most for the limit.

        Returns:
            The ``requestState`` for the client.

        Raises:
            McpError: too much is parked already; the work has been cancelled.
        """
        principal = _owner_of(request)
        if len(self._parked) >= self._total or self._counts[principal] >= self._per_principal:
            running.cancel()
            scope = "this caller" if self._counts[principal] >= self._per_principal else "this server"
            raise errors.overloaded(
                f"too many calls of {scope} wait for input already; answer or abandon some first"
            )
        number = secrets.token_urlsafe(16)
        limit = self._wheel.after(self._limit, self._expired, number)
        self._parked[number] = Parked(running, principal, limit)
        self._counts[principal] += 1
        return self._seal(Ticket(self._owner, number), request)

    def keep(self, state: str, request: Request, *, here: bool = False) -> str:
        """Seal a backend's own state, so that only this principal can bring it back, and only for this call.

        Args:
            state: the backend's.
            request: what it is of.
            here: whether a retry must come back to this process.
        """
        number = ""
        if here and len(self.awaited) < self._total:
            number = secrets.token_urlsafe(16)
            self.awaited[number] = self._wheel.after(self._limit, self.awaited.pop, number)
        return self._seal(Ticket(self._owner if here else "", number, state), request)

    def retry(self, request: Request, ticket: str) -> Pending[Outcome] | None:
        """Go on with what a retry's ``requestState`` stands for.

        Returns:
            What comes next of the parked work, later; or None if the request must be dispatched again, with
            the backend's own state now in its parameters.

        Raises:
            McpError: -32602 for a ticket that is not ours, not this caller's, not for this call, used or expired, and
                for answers that do not fit; outcome unknown for work whose process has gone.
        """
        owner, _, sealed = ticket.partition(".")
        try:
            found = msgspec.json.decode(
                self._sealer.unseal(sealed, _binding(request), self._wall_clock()), type=Ticket
            )
            if found.owner != owner:
                raise BadSeal
        except BadSeal:
            raise errors.invalid_params(
                "requestState is not valid for this request: it was altered, has expired, or belongs to another "
                "caller, method, name or set of arguments; make the call again without it"
            ) from None
        if found.owner not in {"", self._owner}:
            raise owner_gone()
        if found.state is not None:
            awaited = self.awaited.pop(found.park, None)
            if awaited is not None:
                awaited.cancel()
            request.params.request_state = found.state
            return None
        parked = self._parked.get(found.park)
        if parked is None:
            raise errors.invalid_params(
                "requestState has been used or has expired; make the call again without it"
            )
        answers = answers_of(request.params)
        parked.running.asks.check(answers)
        self._forget(found.park)
        call: Call = request.conversation  # type: ignore[assignment]
        call.take_over(parked.running)
        return parked.running.resume(request, answers)

    def close(self) -> None:
        """Cancel all that is parked: the process ends."""
        for number in list(self._parked):
            self._expired(number)
        while self.awaited:
            self.awaited.popitem()[1].cancel()

    def _seal(self, ticket: Ticket, request: Request) -> str:
        expires = self._wall_clock() + self._limit
        return f"{ticket.owner}.{self._sealer.seal(msgspec.json.encode(ticket), _binding(request), expires)}"

    def _expired(self, number: str) -> None:
        self._forget(number).running.cancel()

    def _forget(self, number: str) -> Parked:
        parked = self._parked.pop(number)
        parked.limit.cancel()
        self._counts[parked.principal] -= 1
        if not self._counts[parked.principal]:
            del self._counts[parked.principal]
        return parked


def owner_gone() -> McpError:
    """What is said of work whose process has gone."""
    return errors.outcome_unknown(
        "the process that was running this call has gone, so its outcome is unknown; make the call again only if "
        "running it twice does no harm"
    )


def owner_of(ticket: str) -> str:
    """The worker that a ticket says that it is of; empty for none."""
    return ticket.partition(".")[0]


def _owner_of(request: Request) -> str:
    return f"{request.principal.kind}\0{request.principal.id}"


def _binding(request: Request) -> bytes:
    """Principal, method, name and arguments; arguments in one canonical spelling, since clients may reorder keys."""
    arguments = msgspec.json.encode(request.arguments, order="sorted")
    digest = hashlib.sha256(arguments).hexdigest()
    return "\0".join((_owner_of(request), request.method, request.name, digest)).encode(
        "utf-8", "surrogatepass"
    )
