"""What a handler may do besides returning: report, log, ask the client, see who asks, notice that it gave up."""

import asyncio
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from math import isfinite
from typing import Any, Literal, TypeVar, cast, overload

from twisted.internet.defer import Deferred

from erlmcp.catalog._answers import Answer, Root, Sampled, read_answer
from erlmcp.catalog._content import Message
from erlmcp.catalog._forms import form
from erlmcp.interfaces import Peer, Principal, Request
from erlmcp.protocol import LOG_LEVELS, Question

T = TypeVar("T")
Questions = dict[str, dict[str, Any]]
#: where the handler's coroutine runs: on the reactor, or as a task on asyncio's loop
Place = Literal["reactor", "asyncio"]


class _Done:
    """What has been done already, and may still be awaited."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, Any, None]:
        return iter(())  # type: ignore[return-value]  # an empty iterator is all that `await` needs


_DONE = _Done()


class Context:
    """A handler's way back to its client. Parameters with this annotation get it; clients never see them.

    `report_progress`, `log` and `leave` act at once; awaiting what they return is allowed and does nothing more. They
    may be called from plain functions, which run in threads. Questions (`elicit`, `sample`, `roots`, `ask`) need a
    coroutine.
    """

    __slots__ = ("_asks", "_call_from_thread", "_place", "request")

    def __init__(
        self, request: Request, place: Place = "reactor", call_from_thread: Callable[..., Any] | None = None
    ) -> None:
        self.request = request
        self._place = place
        self._call_from_thread = call_from_thread
        self._asks = 0

    @property
    def principal(self) -> Principal:
        """Whom the request is for."""
        return self.request.principal

    @property
    def peer(self) -> Peer:
        """Where it came from."""
        return self.request.peer

    @property
    def client(self) -> Any:
        """The client's name and version as it says itself, or None. Never a reason to trust it."""
        return self.request.client

    @property
    def capabilities(self) -> Any:
        """What the client declared that it can do (`erlmcp.protocol.ClientCapabilities`)."""
        return self.request.capabilities

    @property
    def request_id(self) -> int | str:
        """The client's id of the request."""
        return self.request.id

    @property
    def trace(self) -> Mapping[str, str]:
        """``traceparent``, ``tracestate`` and ``baggage``, where the client sent them."""
        return self.request.trace or {}

    @property
    def cancelled(self) -> bool:
        """Whether the client gave up: stop, nobody reads the answer."""
        return self.request.cancelled

    def on_cancel(self, callback: Callable[[], None]) -> None:
        """Call `callback` when the client gives up (on the reactor's thread); at once if it has."""
        self._do(self._hear_cancel, callback)

    def report_progress(
        self, progress: float, total: float | None = None, message: str | None = None
    ) -> Awaitable[None]:
        """Tell how far the work is; dropped where the client did not ask for it.

        Args:
            progress: grows with each call.
            total: what it grows to, if known.
            message: what is being done.

        Raises:
            ValueError: infinity or NaN, which JSON does not have.
        """
        if not isfinite(progress) or (total is not None and not isfinite(total)):
            raise ValueError(f"progress is a number that JSON has, not {progress!r} of {total!r}")
        conversation = self.request.conversation
        if conversation is not None:
            self._do(conversation.progress, progress, total, message)
        return _DONE

    def log(self, level: str, data: Any, logger: str | None = None) -> Awaitable[None]:
        """Send a log message to the client; dropped below the level that the request asked for.

        Args:
            level: ``debug``, ``info``, ``notice``, ``warning``, ``error``, ``critical``, ``alert`` or ``emergency``.
            data: anything that JSON can carry. No secrets, no personal data.
            logger: who says it.

        Raises:
            ValueError: there is no such level.
        """
        if level not in LOG_LEVELS:
            raise ValueError(f"there is no log level {level!r}; there are {', '.join(LOG_LEVELS)}")
        conversation = self.request.conversation
        if conversation is not None:
            self._do(conversation.log, level, data, logger)
        return _DONE

    def leave(self) -> Awaitable[None]:
        """Let the client go and come back for the rest, before long work that sends nothing for a while.

        Over HTTP a client of revision 2025-11-25 (basic/transports, streamable HTTP) keeps no connection open
        meanwhile: it asks again with the id of the last event, and misses nothing. Everywhere else this does nothing.
        """
        conversation = self.request.conversation
        if conversation is not None:
            self._do(conversation.leave)
        return _DONE

    def debug(self, data: Any, logger: str | None = None) -> Awaitable[None]:
        """`log` at level ``debug``."""
        return self.log("debug", data, logger)

    def info(self, data: Any, logger: str | None = None) -> Awaitable[None]:
        """`log` at level ``info``."""
        return self.log("info", data, logger)

    def warning(self, data: Any, logger: str | None = None) -> Awaitable[None]:
        """`log` at level ``warning``."""
        return self.log("warning", data, logger)

    def error(self, data: Any, logger: str | None = None) -> Awaitable[None]:
        """`log` at level ``error``."""
        return self.log("error", data, logger)

    @overload
    async def elicit(self, message: str, kind: type[T], key: str | None = None) -> Answer[T]: ...
    @overload
    async def elicit(self, message: str, kind: Any, key: str | None = None) -> Answer[Any]: ...
    async def elicit(self, message: str, kind: Any, key: str | None = None) -> Answer[Any]:
        """Ask the user to fill in a form. Never for secrets: they go through `elicit_url`.

        Args:
            message: what is wanted, and why.
            kind: a class whose fields are primitive, a scalar type, or a ``requestedSchema``.
            key: names the question, stable over retries; ``ask-1``, ``ask-2`` and so on by default.

        Returns:
            `Answer`: its `action`, and `data` of the type asked for if the action is ``accept``.

        Raises:
            InexpressibleHint: no form can ask for `kind`.
            erlmcp.protocol.McpError: the client cannot be asked.
        """
        wanted = form(kind)
        answer = await self._one(Question.elicit_form(message, wanted.schema), key)
        return read_answer(answer, wanted, message)

    async def elicit_url(self, message: str, url: str, key: str | None = None) -> Answer[None]:
        """Ask the user to visit a URL. ``accept`` says that they consented, not that they are done there."""
        answer = await self._one(Question.elicit_url(message, url), key)
        return cast("Answer[None]", read_answer(answer, None, message))

    async def sample(
        self,
        messages: str | Message | Sequence[str | Message | Mapping[str, Any]],
        *,
        max_tokens: int,
        system: str | None = None,
        temperature: float | None = None,
        stop: Sequence[str] | None = None,
        preferences: Mapping[str, Any] | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
        tool_choice: Mapping[str, Any] | None = None,
        include_context: Literal["none", "thisServer", "allServers"] | None = None,
        metadata: Mapping[str, Any] | None = None,
        key: str | None = None,
    ) -> Sampled:
        """Have the client's model write something (deprecated in revision 2026-07-28, client/sampling).

        Args:
            messages: the conversation; a text is one message of the user.
            max_tokens: the most that the model may write.
            system: a system prompt.
            temperature: how freely it writes.
            stop: texts to stop at.
            preferences: ``ModelPreferences``.
            tools: ``Tool`` objects that the model may call.
            tool_choice: ``ToolChoice``.
            include_context: deprecated; leave it out.
            metadata: for the model's provider.
            key: as in `elicit`.
        """
        found: Sequence[Any] = [messages] if isinstance(messages, str | Message) else messages
        question = Question.sample(
            [_sampling_message(one) for one in found],
            max_tokens,
            systemPrompt=system,
            temperature=temperature,
            stopSequences=None if stop is None else list(stop),
            modelPreferences=preferences,
            tools=None if tools is None else list(tools),
            toolChoice=tool_choice,
            includeContext=include_context,
            metadata=metadata,
        )
        return Sampled(await self._one(question, key))

    async def roots(self, key: str | None = None) -> list[Root]:
        """Ask which directories and files the client lets the server work on (deprecated in revision 2026-07-28)."""
        answer = await self._one(Question.list_roots(), key)
        return [Root(root["uri"], root.get("name")) for root in answer.get("roots", ())]

    async def ping(self) -> None:
        """Make sure that the client is still there, before work that is worth it only if somebody waits.

        In the handshake revisions it is asked and must answer (basic/utilities/ping). Revision 2026-07-28 has no ping:
        there the request is the sign of life, and `cancelled` says when it has gone.

        Raises:
            erlmcp.protocol.McpError: it did not answer in time, or cannot be asked on this request.
        """
        conversation = self.request.conversation
        if conversation is not None and conversation.pings:
            await self._one(Question.ping(), None)

    async def ask(self, questions: Mapping[str, dict[str, Any]]) -> Questions:
        """Ask several things in one round: key -> request object, as `erlmcp.protocol.Question` builds them.

        Returns:
            key -> the client's result object.
        """
        return await self._ask(dict(questions))

    async def _one(self, question: dict[str, Any], key: str | None) -> dict[str, Any]:
        self._asks += 1
        name = f"ask-{self._asks}" if key is None else key
        return (await self._ask({name: question}))[name]

    async def _ask(self, questions: Questions) -> Questions:
        if self._place == "asyncio":
            waiting = Deferred.fromCoroutine(_asked(self.request, questions))
            return await waiting.asFuture(asyncio.get_running_loop())
        return await self.request.ask(questions)

    def _hear_cancel(self, callback: Callable[[], None]) -> None:
        if self.request.cancelled:
            callback()
        elif self.request.on_cancel is None:
            self.request.on_cancel = [callback]
        else:
            self.request.on_cancel.append(callback)

    def _do(self, act: Callable[..., None], *arguments: Any) -> None:
        if self._call_from_thread is None:
            act(*arguments)
        else:
            self._call_from_thread(act, *arguments)


def _refuse(_self: Context, *_arguments: Any, **_keywords: Any) -> Any:
    raise RuntimeError("a plain function cannot wait for the client's answer; write it as `async def`")


class ThreadContext(Context):
    """The Context of a plain function: what it does is done on the reactor's thread, and it cannot ask.

    Each report waits until it is made, so what its client did not ask for is dropped here, where that costs nothing.
    """

    __slots__ = ()

    def report_progress(
        self, progress: float, total: float | None = None, message: str | None = None
    ) -> Awaitable[None]:
        """See `Context.report_progress`."""
        wanted = self.request.progress_token is not None
        return super().report_progress(progress, total, message) if wanted else _DONE

    def log(self, level: str, data: Any, logger: str | None = None) -> Awaitable[None]:
        """See `Context.log`."""
        return super().log(level, data, logger) if self.request.log_level is not None else _DONE

    # calls that raise, where a coroutine would never be awaited
    elicit = _refuse
    elicit_url = _refuse
    sample = _refuse
    roots = _refuse
    ask = _refuse
    ping = _refuse


async def _asked(request: Request, questions: Questions) -> Questions:
    return await request.ask(questions)


def _sampling_message(message: str | Message | Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(message, str):
        message = Message(message)
    return message.wire() if isinstance(message, Message) else dict(message)
