"""Questions to the client, from `Request.ask` until their answers are there (revision 2026-07-28, basic/patterns/mrtr).

Kept with the running work and not with a request, because the answers come with another request.
"""

from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred

from erlmcp.protocol import check_answer, errors

Question = dict[str, Any]
Answer = dict[str, Any]


class Asks:
    """What one piece of running work has asked and not yet been told.

    Args:
        given: answers that came unasked, with the first request; each satisfies the first ask with its key.
    """

    __slots__ = ("_closed", "_given", "_groups", "_open", "on_question")

    def __init__(self, given: Mapping[str, Answer]) -> None:
        self._given = dict(given)
        self._open: dict[str, Question] = {}
        self._groups: list[tuple[tuple[str, ...], dict[str, Answer], Deferred[dict[str, Answer]]]] = []
        self._closed = False
        self.on_question: Callable[[], None] | None = None

    @property
    def open(self) -> dict[str, Question]:
        """The questions without an answer, by key, in the order they were asked."""
        return dict(self._open)

    def put(
        self, questions: dict[str, Question], *, permitted: Callable[[Question], None]
    ) -> Deferred[dict[str, Answer]]:
        """Ask; the Deferred gives all the answers by key.

        Args:
            questions: key -> request object.
            permitted: raises for a question that this client cannot be asked; called for those without an answer.

        Raises:
            RuntimeError: a key is asked twice at once, or the call has ended.
            McpError: -32602, an answer that was given beforehand does not fit; or what `permitted` raises.
        """
        if self._closed:
            raise RuntimeError("the call has ended: its client cannot be asked any more")
        twice = [key for key in questions if key in self._open]
        if twice:
            raise RuntimeError(
                f"the key {twice[0]!r} is asked already and has no answer yet: give each ask its own key"
            )
        answers: dict[str, Answer] = {}
        for key, question in questions.items():
            if key in self._given:
                answers[key] = _fitting(key, question, self._given.pop(key))
            else:
                permitted(question)
        waiting: Deferred[dict[str, Answer]] = Deferred(self._withdraw)
        if len(answers) == len(questions):
            waiting.callback(answers)
            return waiting
        self._open.update((key, question) for key, question in questions.items() if key not in answers)
        self._groups.append((tuple(questions), answers, waiting))
        if self.on_question is not None:
            self.on_question()
        return waiting

    def check(self, answers: Mapping[str, Any]) -> None:
        """Refuse answers that do not fit their questions; unknown keys are ignored, missing ones asked again.

        Raises:
            McpError: -32602 naming the key and what is wrong.
        """
        for key, question in self._open.items():
            if key in answers:
                _fitting(key, question, answers[key])

    def refuse(self, error: Exception) -> None:
        """Fail all asks that have no answer."""
        groups, self._groups = self._groups, []
        self._open.clear()
        for _, _, waiting in groups:
            if not waiting.called:
                waiting.errback(error)

    def answer(self, answers: Mapping[str, Answer]) -> None:
        """Take (checked) answers, and let the work go on whose questions have all been answered."""
        for key in [key for key in self._open if key in answers]:
            del self._open[key]
        ready = []
        for group in list(self._groups):
            keys, collected, waiting = group
            collected.update((key, answers[key]) for key in keys if key in answers and key not in collected)
            if len(collected) == len(keys):
                self._groups.remove(group)
                ready.append((waiting, collected))
        for waiting, collected in ready:
            if not waiting.called:
                waiting.callback(collected)

    def close(self) -> None:
        """The call has ended: nobody will answer what tasks of its own still ask, now or later."""
        self._closed = True
        self.on_question = None
        for _, _, waiting in list(self._groups):
            waiting.cancel()

    def _withdraw(self, waiting: Deferred[dict[str, Answer]]) -> None:
        """Whoever asked waits no longer: the client need not be asked, and the keys are free again."""
        for group in list(self._groups):
            keys, _, deferred = group
            if deferred is waiting:
                self._groups.remove(group)
                for key in keys:
                    self._open.pop(key, None)


def _fitting(key: str, question: Question, answer: Any) -> Answer:
    problem = check_answer(question, answer)
    if problem is not None:
        raise errors.invalid_params(f"inputResponses[{key!r}] does not answer the question: {problem}")
    result: Answer = answer
    return result
