"""The rounds of a request whose server needs input (2026-07-28, basic/patterns/mrtr)."""

from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw
from twisted.internet.defer import Deferred, FirstError, gatherResults

from erlmcp.client._answers import Answers
from erlmcp.client._errors import BadAnswer
from erlmcp.client._results import InputRequired, read

_MOST_QUESTIONS: Final = 64
"""Questions that one round may put."""


def needs_input(raw: Raw, method: str, peer: str) -> InputRequired | None:
    """What a result asks for; None if it is complete.

    Raises:
        BadAnswer: it is of a kind that is not known (basic/index, "Responses"), or asks for nothing.
    """
    text = bytes(raw)
    # Nearly every result is complete, and says so in its first bytes; what only contains the word is looked at.
    if b'"resultType"' not in text or b'"complete"' in text[:40]:
        return None
    try:
        kind = msgspec.json.decode(text, type=_Kind).resultType
        if kind == "complete":
            return None
        if kind != "input_required":
            raise BadAnswer(peer, f"{method}: resultType {kind[:40]!r} is not known here")
        required = read(InputRequired, raw)
    except msgspec.DecodeError as error:
        raise BadAnswer(peer, f"{method}: {error}") from error
    if not required.input_requests and required.request_state is UNSET:
        raise BadAnswer(peer, f"{method}: it needs input, and says neither which nor a requestState")
    if len(required.input_requests) > _MOST_QUESTIONS:
        raise BadAnswer(peer, f"{method}: it puts more than {_MOST_QUESTIONS} questions at once")
    return required


class _Kind(msgspec.Struct):
    resultType: str = "complete"  # noqa: N815 - the name on the wire


async def retried(params: dict[str, Any], required: InputRequired, answers: Answers) -> dict[str, Any]:
    """The parameters of the next round: this round's answers, and the state untouched.

    Args:
        params: those of the first round.
        required: what the server needs.
        answers: who answers; all questions are put at once.

    Raises:
        CannotAnswer: one of the questions has no answer.
    """
    asked = [
        Deferred.fromCoroutine(answers.answer(str(question.get("method")), question.get("params") or {}))
        for question in required.input_requests.values()
    ]
    try:
        given = await gatherResults(asked, consumeErrors=True)
    except FirstError as error:
        for one in asked:
            one.cancel()
        error.subFailure.raiseException()
    again = dict(params)
    if required.input_requests:
        again["inputResponses"] = dict(zip(required.input_requests, given, strict=True))
    if required.request_state is not UNSET:
        again["requestState"] = required.request_state
    return again
