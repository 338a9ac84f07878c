"""Callers of both eras: each call has a mark, and whatever comes back is held against it."""

import itertools
import random
import re
import time
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from erlmcp.client import Answers, Backoff, Client, ClientError, Disconnected, ServerError, Target, accept
from erlmcp.client import TimedOut as ClientTimedOut
from tests.chaos.provider import BIG, THING
from tests.chaos.tally import Tally

HANG: Final = 25.0
"""Seconds after which a call hangs: nothing is broken for so long that it could wait for it."""
BACKOFF: Final = Backoff(first=0.05, longest=0.5)
_TOOLS: Final = ("echo", "echo", "echo", "nap", "steps", "confirm", "big")
_FAR: Final = "far."
"""In front of a tool's name where it is the upstream's."""
_AFAR: Final = 0.25
"""The share of calls that go to the upstream."""


class Caller:
    """One client that calls all the time.

    Args:
        reactor: what it runs on.
        kind: what it is, for the count: how it connects and its era.
        name: begins its marks.
        target: makes the server to call.
        era: its revision, or ``modern``.
        tally: where it says what came back.
        proxied: whether its connections may go wrong at any time.
        chance: what it does next.
    """

    def __init__(
        self,
        reactor: Any,
        kind: str,
        name: str,
        target: Target,
        era: str,
        tally: Tally,
        chance: random.Random,
        *,
        proxied: bool,
    ) -> None:
        self.kind = kind
        self.last_right = 0.0
        self._reactor = reactor
        self._name = name
        self._tally = tally
        self._proxied = proxied
        self._chance = chance
        self._numbers = itertools.count(1)
        self._mark = ""
        self._over = False
        answers = Answers(elicit=self._asked)
        self._client = Client(
            target, reactor, era=era, answers=answers, timeout=HANG, longest=HANG, backoff=BACKOFF
        )

    async def run(self) -> None:
        """Call until told to end."""
        while not self._over:
            if not await self.call():
                await self._pause(0.05)
            await self._pause(self._chance.random() * 0.03)
        await self._client.close()

    def end(self) -> None:
        """Make the call under way the last one."""
        self._over = True

    async def call(self) -> bool:
        """Make one call; whether its answer was right."""
        mark = self._mark = f"{self._name}-{next(self._numbers)}-{self._chance.getrandbits(32):08x}"
        tool = self._chance.choice(_TOOLS)
        far = _FAR if self._chance.random() < _AFAR else ""
        arguments: dict[str, Any] = {"mark": mark}
        if tool in ("nap", "steps"):
            arguments["seconds"] = round(self._chance.random() * 0.2, 3)
        expected = {"big": " ".join([mark] * BIG), "confirm": f"{mark} of {mark}"}.get(tool, mark)
        began = time.monotonic()
        calling = self._client.call(
            far + tool, arguments, on_progress=self._progressed if tool == "steps" else None
        )
        # The client has a limit of its own; that it keeps it is looked at too.
        calling.addTimeout(HANG + 5, self._reactor, onTimeoutCancel=_hung)
        try:
            result = await calling
        except (ClientError, _HungError) as error:
            self._failed(f"{self.kind}: {far}{tool} {mark}", began, error, far=bool(far))
            return False
        if result.is_error or result.text != expected:
            self._tally.wrong.append(f"{self.kind}: {far}{tool} {mark} was answered {result.text[:200]!r}")
            return False
        self._tally.right[self.kind] += 1
        self._tally.answered.add(mark)
        self.last_right = time.monotonic()
        return True

    def _failed(self, what: str, began: float, error: Exception, *, far: bool) -> None:
        took = time.monotonic() - began
        after = f"after {took:.1f} s"
        # An upstream that is away is told of in an answer: whoever calls it keeps the connection to the daemon.
        excused = self._tally.excused(began, far=far and isinstance(error, ServerError))
        if isinstance(error, ClientTimedOut) and took < HANG - 1 and excused:
            # A limit of the client's own on a step of connecting: a worker that hangs is only found out after it.
            self._tally.lost[_reason(error)] += 1
        elif isinstance(error, _HungError | ClientTimedOut):
            self._tally.wrong.append(f"{what} hung: {error!r} {after}")
        elif not isinstance(error, Disconnected | ServerError):
            self._tally.wrong.append(f"{what} failed {after}: {error!r}")
        elif (
            excused
            or (self._proxied and isinstance(error, Disconnected))
            or (self.kind.startswith("TCP") and self._tally.parted(began))
        ):
            self._tally.lost[_reason(error)] += 1
        else:
            self._tally.wrong.append(f"{what} was lost {after}, though nothing cost it: {error}")

    def _asked(self, question: Any) -> dict[str, Any]:
        if question.message != self._mark:
            self._tally.wrong.append(f"{self.kind}: was asked for {question.message}, amid {self._mark}")
        return accept({"word": f"of {question.message}"})

    def _progressed(self, progress: Any) -> None:
        if progress.message != self._mark:
            self._tally.wrong.append(f"{self.kind}: heard of {progress.message}, amid {self._mark}")

    def _pause(self, seconds: float) -> Deferred[None]:
        return deferLater(self._reactor, seconds, lambda: None)


class Watcher:
    """A client that listens, and is told of changes whatever became of its connection meanwhile.

    Args:
        reactor: what it runs on.
        kind: what it is.
        target: the server to listen to.
        era: its revision, or ``modern``.

    Attributes:
        heard: how many changes it was told of.
    """

    def __init__(self, reactor: Any, kind: str, target: Target, era: str) -> None:
        self.kind = kind
        self.heard = 0
        self._client = Client(target, reactor, era=era, timeout=HANG, backoff=BACKOFF)

    def start(self) -> Deferred[Any]:
        """Begin; fires when the server knows."""
        return self._client.listen(self._changed, uris=[THING]).acknowledged

    def touch(self) -> Deferred[Any]:
        """Have a change announced."""
        return self._client.call("touch", repeatable=True)

    def end(self) -> Deferred[None]:
        """Listen no more."""
        return self._client.close()

    def _changed(self, _change: Any) -> None:
        self.heard += 1


class _HungError(Exception):
    """A call that not even its limit of time has ended."""


def _hung(_value: Any, _timeout: float) -> None:
    raise _HungError("neither answered nor given up")


def _reason(error: Exception) -> str:
    """What it says, without what differs from one call to the next."""
    text = str(error).partition(": ")[2] if isinstance(error, Disconnected) else str(error)
    text = re.sub(r"[^ ]*127\.0\.0\.1[^ ]*( is lost)?:? |for [0-9.]+ s after: ", "", text)
    return re.sub(r"[0-9a-f]{8,}|\d+\.\d+", "N", text)[:120]
