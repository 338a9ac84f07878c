"""How an author's function is run: a coroutine as it is, a plain function in a thread, or a task on asyncio's loop."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.threads import blockingCallFromThread
from twisted.logger import Logger

from erlmcp.catalog._context import Context, ThreadContext
from erlmcp.catalog._errors import ResourceNotFound, ToolError
from erlmcp.catalog._functions import Function
from erlmcp.interfaces import Request
from erlmcp.pool import QueueFull, ThreadPool
from erlmcp.protocol import McpError, errors
from erlmcp.telemetry import report

_log = Logger(namespace="erlmcp.catalog")
#: what a function may raise that is not its own failure; all else, `SystemExit` too, is answered
PASSING = (McpError, CancelledError, GeneratorExit, KeyboardInterrupt)


class Workshop:
    """Where a provider's functions run.

    Args:
        asyncio: whether coroutines run as tasks on the asyncio reactor's loop.
        threads: the most threads for plain functions.
        queue: the most plain functions that wait for a thread.
        name: what the threads are called.
    """

    def __init__(self, *, asyncio: bool, threads: int, queue: int, name: str) -> None:
        if threads < 1 or queue < 0:
            raise ValueError(
                f"threads={threads}, queue={queue}: at least one thread, and a queue of at least 0"
            )
        self.asyncio = asyncio
        self.reactor: IReactorFromThreads | None = None
        self._threads = threads
        self._queue = queue
        self._name = name
        self._pool: ThreadPool | None = None

    @property
    def pool(self) -> ThreadPool:
        """The thread pool, made when it is first needed."""
        if self._pool is None:
            self._pool = ThreadPool(self._reactor(), self._threads, self._queue, self._name)
        return self._pool

    def stop(self) -> None:
        """End the threads; a later call starts anew."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.stop()

    def on_reactor(self, act: Callable[..., None], *arguments: Any) -> None:
        """Act where definitions and watchers live: a plain function is in a thread, and waits until it is done."""
        if self._pool is not None and self._pool.inside:
            blockingCallFromThread(self._reactor(), act, *arguments)
        else:
            act(*arguments)

    def context(self, function: Function, request: Request) -> Context:
        """The Context that the function gets."""
        if not function.coroutine:
            # Each report waits until it is made: a function that reports faster than they go out must not fill a queue.
            return ThreadContext(request, "reactor", partial(blockingCallFromThread, self._reactor()))
        return Context(request, "asyncio" if self.asyncio else "reactor")

    def awaitable(self, function: Function) -> Callable[..., Awaitable[Any]]:
        """The function as something to await, wherever it runs."""
        call = function.call
        if not function.coroutine:
            return self._in_thread(call)
        return _as_task(call) if self.asyncio else call

    def _reactor(self) -> IReactorFromThreads:
        if self.reactor is None:
            from twisted.internet import reactor  # at run time: nothing here may choose a reactor on import

            self.reactor = IReactorFromThreads(reactor)
        return self.reactor

    def _in_thread(self, call: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
        async def run(**arguments: Any) -> Any:
            try:
                waiting = self.pool.run(call, **arguments)
            except QueueFull:
                raise errors.overloaded("All threads of this server are busy; try again later") from None
            value = await waiting
            if isinstance(value, Deferred) or asyncio.iscoroutine(value):
                if asyncio.iscoroutine(value):
                    value.close()
                raise TypeError("a plain function returned something to await; write it as `async def`")
            return value

        return run


def _as_task(call: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    async def run(**arguments: Any) -> Any:
        task = _loop().create_task(call(**arguments))
        waiting = Deferred.fromFuture(task)
        try:
            return await waiting
        except asyncio.CancelledError:
            raise CancelledError from None
        finally:
            if not task.done():
                # the call was given up: what the task holds must be let go, and nobody hears how it ends
                waiting.addErrback(lambda _: None)
                task.cancel()

    return run


def _loop() -> asyncio.AbstractEventLoop:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError(_WRONG_REACTOR) from None


_WRONG_REACTOR = (
    "Provider(asyncio=True) needs Twisted's asyncio reactor; start the daemon so that it installs it, or call"
    " twisted.internet.asyncioreactor.install() before anything imports the reactor"
)


def require_asyncio_reactor(reactor: object) -> None:
    """Refuse any other reactor than asyncio's; for `Provider(asyncio=True)`.

    Raises:
        RuntimeError: it is another one; the message says what to do.
    """
    from twisted.internet.asyncioreactor import AsyncioSelectorReactor

    if not isinstance(reactor, AsyncioSelectorReactor):
        raise RuntimeError(  # noqa: TRY004 - a state of the process, not an argument
            f"{_WRONG_REACTOR}; the reactor is {type(reactor).__name__}"
        )


def failure_id(function: Function, request: Request, error: BaseException) -> str:
    """Log an error that clients must not see, and give the id that they may."""
    return report(_log, "{label} failed [{reference}]", error, request, label=function.label)


def protocol_error(function: Function, request: Request, error: BaseException) -> McpError:
    """What a prompt, a resource or a completion answers when its function raised `error`."""
    if isinstance(error, ResourceNotFound):
        return errors.resource_not_found(request.name)
    if isinstance(error, ToolError):
        return errors.internal(str(error))
    reference = failure_id(function, request, error)
    return errors.internal(f"Internal error {reference}", {"requestId": reference})
