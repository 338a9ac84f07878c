"""Questions that a handshake server asks live, in the middle of a call or at any time."""

from typing import Any, Final

import msgspec
from msgspec import Raw
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from erlmcp.client._answers import Answers, CannotAnswer
from erlmcp.client._conversation import Conversation
from erlmcp.jsonrpc import INTERNAL_ERROR, INVALID_PARAMS, METHOD_NOT_FOUND
from erlmcp.protocol import errors

log = Logger(namespace="erlmcp.client")

_MOST: Final = 64
"""Questions that one server may have open at once."""
_KNOWN: Final = frozenset({"elicitation/create", "sampling/createMessage", "roots/list"})
_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode


class LiveQuestions:
    """Answers the requests of one server.

    Args:
        conversation: where they come from.
        answers: who answers them.
    """

    def __init__(self, conversation: Conversation, answers: Answers) -> None:
        self._conversation = conversation
        self._answers = answers
        self._open: dict[int | str, Deferred[Any]] = {}

    def asked(self, id: int | str, method: str, params: Raw) -> None:  # noqa: A002 - JSON-RPC's own name
        """Answer a request, sooner or later."""
        conversation = self._conversation
        if method == "ping":
            conversation.answer(id, {})
            return
        if method not in _KNOWN:
            conversation.refuse(id, METHOD_NOT_FOUND, f"Method not found: {method[:200]}")
            return
        if len(self._open) >= _MOST or id in self._open:
            conversation.refuse(id, errors.OVERLOADED, f"{_MOST} questions are open, or one of this id is")
            return
        conversation.asking += 1
        answering = Deferred.fromCoroutine(self._answer(method, params))
        self._open[id] = answering
        answering.addCallbacks(self._answered, self._failed, callbackArgs=(id,), errbackArgs=(id,))

    def withdrawn(self, params: Raw) -> None:
        """The server no longer wants the answer (``notifications/cancelled``)."""
        try:
            id = _decode(params).get("requestId")  # noqa: A001 - JSON-RPC's own name
        except msgspec.DecodeError:
            return
        answering = self._open.get(id) if isinstance(id, int | str) else None
        if answering is not None:
            answering.cancel()

    def close(self) -> None:
        """Nobody is there to hear answers."""
        for answering in list(self._open.values()):
            answering.cancel()

    async def _answer(self, method: str, params: Raw) -> dict[str, Any]:
        return await self._answers.answer(method, _decode(params))

    def _answered(self, answer: dict[str, Any], id: int | str) -> None:  # noqa: A002 - JSON-RPC's own name
        self._over(id)
        self._conversation.answer(id, answer)

    def _failed(self, failure: Any, id: int | str) -> None:  # noqa: A002 - JSON-RPC's own name
        self._over(id)
        if failure.check(CannotAnswer, msgspec.DecodeError):
            self._conversation.refuse(id, INVALID_PARAMS, str(failure.value))
        elif not failure.check(CancelledError):
            log.failure("answering a server's question failed", failure)
            self._conversation.refuse(id, INTERNAL_ERROR, "the client failed to answer")

    def _over(self, id: int | str) -> None:  # noqa: A002 - JSON-RPC's own name
        del self._open[id]
        self._conversation.asking -= 1
