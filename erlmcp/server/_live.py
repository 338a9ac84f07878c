"""Requests to handshake clients, live, in the middle of a call: their ids, their answers, and how long they wait."""

from collections import Counter
from itertools import count
from typing import Any

from msgspec import UNSET
from twisted.internet.defer import Deferred

from erlmcp.interfaces import IExchange
from erlmcp.jsonrpc import Message, encode_notification, encode_request
from erlmcp.protocol import (
    McpError,
    Params,
    check_answer,
    down_question,
    errors,
    notifications,
    read_response,
)
from erlmcp.server._asks import Question
from erlmcp.server._handshake_call import HandshakeCall
from erlmcp.server._session import Session
from erlmcp.timing import Entry, Wheel


class _Round:
    """The questions that one call asks at once, and their answers as they come."""

    __slots__ = ("answers", "call", "done", "limit", "open")

    def __init__(self, call: HandshakeCall, done: Deferred[None]) -> None:
        self.call = call
        self.done = done
        self.open: dict[str, tuple[str, Question]] = {}
        self.answers: dict[str, dict[str, Any]] = {}
        self.limit: Entry | None = None


class LiveQuestions:
    """All questions that wait for a handshake client.

    Args:
        owner: this worker's name; it begins every id, so that an answer finds the one that waits.
        wheel: for the time limit.
        limit: seconds that a client has to answer.
        per_session, total: how many questions may wait at once.
    """

    def __init__(
        self, owner: str, wheel: Wheel, *, limit: float = 600.0, per_session: int = 100, total: int = 10_000
    ) -> None:
        self._owner = owner
        self._wheel = wheel
        self._limit = limit
        self._per_session = per_session
        self._total = total
        self._numbers = count(1)
        self._rounds: dict[str, _Round] = {}
        self._counts: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._rounds)

    def ask(self, call: HandshakeCall, questions: dict[str, Question]) -> Deferred[None]:
        """Ask a client; the call has `answers` or a `refusal` when the Deferred fires. Cancelling it takes them back.

        Raises:
            McpError: too many questions wait already.
        """
        session = call.session
        assert session is not None  # noqa: S101 - `HandshakeCall.permit` lets nobody ask without
        mine = self._counts[session.number] + len(questions)
        if mine > self._per_session or len(self._rounds) + len(questions) > self._total:
            raise errors.overloaded("too many questions wait for an answer of this client")
        one = _Round(call, Deferred(lambda _: self._take_back(one, "the call was cancelled")))
        one.limit = self._wheel.after(self._limit, self._expired, one)
        for key, question in questions.items():
            number = f"{self._owner}.{next(self._numbers)}"
            one.open[number] = (key, question)
            self._rounds[number] = one
        self._counts[session.number] = mine
        for number, (_, question) in list(one.open.items()):
            asked = down_question(question, session.revision) or question
            params = asked.get("params")
            call.send(encode_request(number, asked["method"], UNSET if params is None else params))
        return one.done

    def answered(self, session: Session, message: Message[Params]) -> bool:
        """Take a client's response; false if nobody waits for it."""
        number = message.id
        one = self._rounds.get(number) if isinstance(number, str) else None
        if one is None or one.call.session is not session or not isinstance(number, str):
            return False
        key, question = one.open[number]
        self._forget(one, number)
        problem = self._read(one, key, question, message)
        if problem is not None:
            self._take_back(one, "another question was not answered")
            one.call.refusal = problem
        elif one.open:
            return True
        else:
            one.call.answers = one.answers
        self._fire(one)
        return True

    def closed(self, exchange: IExchange) -> None:
        """A stream has ended: nobody on it will answer any more."""
        for one in {id(one): one for one in self._rounds.values() if one.call.exchange is exchange}.values():
            self._take_back(one, None)

    @staticmethod
    def _read(one: _Round, key: str, question: Question, message: Message[Params]) -> McpError | None:
        try:
            answer = read_response(message.result, message.error)
        except McpError as error:
            return error
        problem = None if question["method"] == "ping" else check_answer(question, answer)
        if problem is not None:
            return errors.invalid_params(
                f"the client's answer to {question['method']} does not fit: {problem}"
            )
        one.answers[key] = answer
        return None

    def _expired(self, one: _Round) -> None:
        self._take_back(one, "it was not answered in time")
        one.call.refusal = errors.deadline_exceeded(self._limit)
        self._fire(one)

    def _take_back(self, one: _Round, reason: str | None) -> None:
        """Wait no more for the questions still open, and say so to the client if there is a reason."""
        for number in list(one.open):
            self._forget(one, number)
            if reason is not None:
                one.call.send(encode_notification(*notifications.cancelled(number, reason)))
        if one.limit is not None:
            one.limit.cancel()

    def _forget(self, one: _Round, number: str) -> None:
        del one.open[number]
        del self._rounds[number]
        session = one.call.session
        if session is not None:
            self._counts[session.number] -= 1
            if not self._counts[session.number]:
                del self._counts[session.number]

    @staticmethod
    def _fire(one: _Round) -> None:
        if one.limit is not None:
            one.limit.cancel()
        if not one.done.called:
            one.done.callback(None)


def question_owner(number: Any) -> str:
    """The worker that a question is of, by its id; empty for none."""
    return number.partition(".")[0] if isinstance(number, str) else ""
