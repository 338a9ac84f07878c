"""One request, as the middle of the house sees it: stateless and complete."""

from collections.abc import Awaitable, Callable, Mapping
from secrets import token_hex
from typing import Any

import msgspec
from twisted.logger import Logger
from zope.interface import Attribute, Interface

from erlmcp.interfaces._values import ANONYMOUS, Peer, Principal

log = Logger()


class IConversation(Interface):
    """How the edge that a request came in by reaches its client while the request is under way."""

    pings: bool = Attribute(
        "whether the client can be asked whether it is there (`erlmcp.protocol.Question.ping`)"
    )

    def ask(questions: dict[str, dict[str, Any]]) -> Awaitable[dict[str, dict[str, Any]]]:
        """Ask the client; gives its answers by key. Raises `erlmcp.protocol.McpError` if it cannot be asked."""

    def progress(progress: float, total: float | None, message: str | None) -> None:
        """Tell how far the work is; dropped where the client did not ask for it, or reads too slowly."""

    def leave() -> None:
        """Let the client go, and come back for the rest: for long work, where its transport and era know how to."""

    def log(level: str, data: Any, logger: str | None) -> None:
        """Send a log message; dropped below the level that the request asked for."""


class Request(msgspec.Struct, kw_only=True, eq=False):
    """A request inside the house. Gates fill it in on its way; a retry refreshes it.

    Attributes:
        id: the client's request id, for logs and cancellation.
        method: MCP's method name.
        name: what the method is about: tool or prompt name, resource URI; empty elsewhere.
        params: the method's typed parameters (`erlmcp.protocol.Params`).
        version: the protocol revision that the client speaks.
        era: ``modern`` or ``handshake``; for metrics and for the edges, never for the middle.
        capabilities: the client's capabilities (`erlmcp.protocol.ClientCapabilities`).
        client: the client's name and version, as it says itself, or None.
        log_level: the lowest level of log message wanted, None for no log messages.
        progress_token: None if no progress is wanted.
        trace: ``traceparent``, ``tracestate`` and ``baggage`` where sent and well formed: what an upstream is to get.
        span: what traces this request, where somebody does.
        reference: what logs and the answers to the caller call it by; empty until `refer` is asked for it.
        answers: the client's answers to questions of this request, where it has been asked.
        peer: where it came from.
        headers: HTTP header fields or None.
        session: the client's own session, which an upstream's may be kept for; empty for clients without one.
        principal: whom it is for (gate 2).
        deadline: on the reactor's clock, in seconds.
        received: time of arrival, `time.perf_counter`.
        size: bytes of the message.
        target: the definition that answers `name` (gate 5), else None.
        backend: the backend that the target belongs to, else None.
        arguments: the validated arguments (gate 5).
        conversation: how to reach the client.
        identified: whether its principal is known already (gates 1 and 2 are passed).
        cancelled: whether the client gave up.
        on_cancel: what to call when it does.
    """

    id: int | str
    method: str
    peer: Peer
    name: str = ""
    params: Any = None
    version: str = "2026-07-28"
    era: str = "modern"
    capabilities: Any = None
    client: Any = None
    log_level: str | None = None
    progress_token: int | str | None = None
    trace: Mapping[str, str] | None = None
    span: Any = None
    reference: str = ""
    answers: Any = None
    headers: Mapping[bytes, bytes] | None = None
    session: str = ""
    principal: Principal = ANONYMOUS
    deadline: float = 0.0
    received: float = 0.0
    size: int = 0
    conversation: IConversation | None = None
    target: Any = None
    backend: Any = None
    arguments: dict[str, Any] | None = None
    identified: bool = False
    cancelled: bool = False
    on_cancel: list[Callable[[], None]] | None = None

    def refer(self) -> str:
        """The request's reference: made when it is first needed, unlike its `id` nobody else's, and no secret."""
        if not self.reference:
            self.reference = token_hex(6)
        return self.reference

    async def ask(self, questions: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """Ask the client: key -> request object in, key -> the client's result out.

        Raises:
            erlmcp.protocol.McpError: the client declared no such capability, or cannot be asked on this request.
        """
        if self.conversation is None:
            raise RuntimeError("this request has no client to ask, or has ended")
        return await self.conversation.ask(questions)

    def cancel(self) -> None:
        """Mark the request as given up, and tell those who asked to know. Once.

        What they raise is logged: it must keep neither the others nor the request from ending.
        """
        if self.cancelled:
            return
        self.cancelled = True
        callbacks, self.on_cancel = self.on_cancel, None
        for callback in callbacks or ():
            try:
                callback()
            except Exception:  # noqa: BLE001 - a backend's error is its own
                log.failure("{method} {name}: on_cancel failed", method=self.method, name=self.name)
