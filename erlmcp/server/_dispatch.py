"""Gate 8: who answers a request, and what becomes of work that does not end at once."""

from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from erlmcp.interfaces import Complete, IBackend, IMiddleware, NeedsInput, Outcome, Pending, Request
from erlmcp.server._call import Call
from erlmcp.server._directory import LISTS, Directory
from erlmcp.server._drive import Drive, begin
from erlmcp.server._running import Running
from erlmcp.server._subscriptions import Subscriptions
from erlmcp.timing import Wheel

Answer = Outcome | Awaitable[Outcome]


class Dispatch:
    """Sends each request to what answers it.

    Args:
        directory: answers about the server itself.
        subscriptions: answers ``subscriptions/listen``.
        handshake: answers what only handshake clients ask.
        middleware: wrapped around backends, the first outermost.
        wheel, clock: for deadlines of work that waits.
    """

    def __init__(
        self,
        directory: Directory,
        subscriptions: Subscriptions,
        handshake: Mapping[str, Callable[[Request], Answer]],
        middleware: Sequence[IMiddleware],
        wheel: Wheel,
        clock: IReactorTime,
    ) -> None:
        self._own: dict[str, Callable[[Request], Answer]] = {
            "server/discover": directory.discover,
            "subscriptions/listen": subscriptions.listen,
            **dict.fromkeys(LISTS, directory.page),
            **handshake,
        }
        self._wheel = wheel
        self._clock = clock
        self._to_backend: Callable[[Request], Answer] = _ask_backend
        for one in reversed(middleware):
            self._to_backend = _wrapped(one, self._to_backend)

    def __call__(self, request: Request) -> Outcome | Pending[Outcome]:
        """Answer at once, or give what to wait for."""
        own = self._own.get(request.method)
        if own is not None:
            said = own(request)
            return said if isinstance(said, (Complete, NeedsInput)) else begin(_awaited(said))
        call: Call = request.conversation  # type: ignore[assignment]  # whose request it is knows how it is answered
        resumed = call.edge.resumption(call)
        if resumed is not None:
            return resumed
        answer = self._to_backend(request)
        if isinstance(answer, (Complete, NeedsInput)):
            return answer
        work: Pending[Outcome] | Deferred[Outcome]
        if isinstance(answer, (Pending, Deferred)):
            work = answer
        else:
            begun = begin(cast("Coroutine[Any, Any, Outcome]", answer))
            if not isinstance(begun, Drive):
                return begun
            work = begun
        call.running = running = Running(request, call.asked, work, self._wheel, self._clock)
        running.begin()
        return running


async def _awaited(answer: Awaitable[Outcome]) -> Outcome:
    return await answer


def _ask_backend(request: Request) -> Answer:
    backend: IBackend = request.backend
    return backend.dispatch(request)


def _wrapped(middleware: IMiddleware, inner: Callable[[Request], Answer]) -> Callable[[Request], Answer]:
    async def call_next(request: Request) -> Outcome:
        answer = inner(request)
        return answer if isinstance(answer, (Complete, NeedsInput)) else await answer

    def wrapped(request: Request) -> Answer:
        return middleware.wrap(request, call_next)

    return wrapped
