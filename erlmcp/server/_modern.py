"""The modern edge: revision 2026-07-28 in, one `Request`; an outcome or an error out, as that revision says it.

It is the only place that knows how a modern client is asked for input and how its answers are spelt.
"""

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import UNSET
from twisted.internet.defer import CancelledError
from twisted.logger import Logger

from erlmcp.catalog import InvalidArguments
from erlmcp.interfaces import Complete, IExchange, NeedsInput, Outcome, Pending, Request
from erlmcp.jsonrpc import Message, encode_error, encode_result
from erlmcp.protocol import (
    METHODS,
    McpError,
    Meta,
    Params,
    check_modern,
    check_params,
    complete,
    errors,
    input_required,
    server_info_meta,
)
from erlmcp.server._call import Call, internal_error, trace_of
from erlmcp.server._parking import Parking
from erlmcp.telemetry import report

log = Logger()

NO_PARAMS = Params()


class ModernEdge:
    """Reads modern requests and writes their answers.

    Args:
        server_info: the ``serverInfo`` object that every result carries.
        declared: gives the capability object of the server; methods of others are unknown here.
        parking: where work waits for a client's retry.
    """

    def __init__(
        self, server_info: dict[str, Any], declared: Callable[[], dict[str, Any]], parking: Parking
    ) -> None:
        # Encoded once: it goes with every result.
        self._meta = server_info_meta(msgspec.Raw(msgspec.json.encode(server_info)))
        self._declared = declared
        self._parking = parking

    def request(
        self, message: Message[Params], meta: Meta, exchange: IExchange, size: int, received: float
    ) -> Request:
        """Make a request of a message with an envelope.

        Raises:
            McpError: -32602, -32020, -32022 or -32601, checked in this order.
        """
        params = NO_PARAMS if message.params is UNSET else message.params
        method = check_modern(message.method, meta, exchange.headers, params)  # type: ignore[arg-type]
        if isinstance(method, McpError):
            raise method
        if method.capability is not None and method.capability not in self._declared():
            raise errors.method_not_found(method.name)
        lacking = check_params(method, params)
        if lacking is not None:
            raise lacking
        name = getattr(params, method.name_field) if method.name_field is not None else ""
        return Request(
            id=message.id,  # type: ignore[arg-type]
            method=method.name,
            name=name,
            params=params,
            version=meta.protocol_version,  # type: ignore[arg-type]
            capabilities=meta.capabilities,
            client=None if meta.client_info is UNSET else meta.client_info,
            log_level=None if meta.log_level is UNSET else meta.log_level,
            progress_token=None if meta.progress_token is UNSET else meta.progress_token,
            trace=trace_of(meta, exchange.headers),
            peer=exchange.peer,
            headers=exchange.headers,
            received=received,
            size=size,
        )

    def resumption(self, call: Call) -> Pending[Outcome] | None:
        """What a retry goes on with; None where there is nothing, or only a backend's own state (see `Parking.retry`).

        Raises:
            McpError: the retry's state or answers are not right.
        """
        params = call.request.params
        if params.request_state is not UNSET:
            resumed = self._parking.retry(call.request, params.request_state)
            if resumed is not None:
                return resumed
        if params.input_responses is not UNSET:
            call.expect()
        return None

    def finish(self, call: Call, outcome: Complete | NeedsInput) -> None:
        """Answer a call with its outcome."""
        request = call.request
        try:
            result = (
                self._complete(request, outcome)
                if isinstance(outcome, Complete)
                else self._ask(call, outcome)
            )
            message = encode_result(request.id, result)
        except Exception as error:  # noqa: BLE001 - whatever a backend's outcome cannot be made into an answer for
            if call.running is not None and not call.running.ended:
                # It waits for answers to questions that the client will never see.
                call.running.cancel()
            self.fail(call, error)
            return
        call.settled = True
        call.exchange.reply(message)

    def fail(self, call: Call, error: BaseException) -> None:
        """Answer a call with the error that it came to; nothing is sent for one that its client gave up."""
        request = call.request
        if isinstance(error, McpError):
            self.refuse(call.exchange, request.id, error)
        elif isinstance(error, InvalidArguments):
            # Tool execution errors are for the model to read and mend (server/tools, "Error Handling").
            self.finish(call, Complete({"content": [{"type": "text", "text": str(error)}], "isError": True}))
        elif isinstance(error, CancelledError) and request.cancelled:
            # Its client would not be answered: it is this server that ends.
            self.refuse(call.exchange, request.id, errors.shutting_down())
        else:
            reference = report(log, "{method} {name} of request {id} failed [{reference}]", error, request)
            self.refuse(call.exchange, request.id, internal_error(reference))
        call.settled = True

    def refuse(self, exchange: IExchange, id: int | str | None, error: McpError) -> None:  # noqa: A002
        """Answer a message with an error."""
        try:
            message = encode_error(id, error.code, error.message, error.data)
        except (TypeError, ValueError, OverflowError):
            log.failure("the data of an error cannot be sent: {data!r}", data=error.data)
            message = encode_error(id, error.code, error.message)
        exchange.reply(message, error.http_status(), error.headers)

    def _complete(self, request: Request, outcome: Complete) -> dict[str, Any]:
        result = complete(outcome.fields, self._meta)
        if METHODS[request.method].cacheable:
            params = request.params
            if params.request_state is not UNSET or params.input_responses is not UNSET:
                # What a retry came to depends on inputs that are in no cache key (server/utilities/caching).
                result["ttlMs"] = 0
                result["cacheScope"] = "private"
            else:
                result.setdefault("ttlMs", 0)
                result.setdefault("cacheScope", "private")
        return result

    def _ask(self, call: Call, outcome: NeedsInput) -> dict[str, Any]:
        request = call.request
        if not METHODS[request.method].may_ask:
            raise errors.internal(f"{request.method} may not ask its client for input")
        for question in outcome.questions.values():
            call.permit(question)
        # First, so that nothing is parked for questions that cannot be sent.
        questions = msgspec.Raw(msgspec.json.encode(outcome.questions)) if outcome.questions else None
        state: str | None = None
        if call.running is not None and not call.running.ended:
            state = self._parking.park(call.running, request)
        elif outcome.state is not None:
            state = self._parking.keep(outcome.state, request, here=outcome.here)
        return input_required(questions, state, self._meta)
