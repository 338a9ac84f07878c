"""Questions and answers, by all the ways they can interleave."""

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.protocol import McpError, Question
from erlmcp.server._asks import Asks

FORM = Question.elicit_form(
    "?", {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
)
keys = st.sampled_from("abcdef")


def accepted(number: int) -> dict[str, Any]:
    return {"action": "accept", "content": {"n": number}}


class Interleaving(RuleBasedStateMachine):
    """A model: each key is unasked, open or answered; an ask goes on once all its keys are answered."""

    @initialize(given=st.dictionaries(keys, st.integers(0, 9), max_size=3))
    def begin(self, given: dict[str, int]) -> None:
        self.asks = Asks({key: accepted(number) for key, number in given.items()})
        self.given = dict(given)
        self.open: dict[str, None] = {}
        self.waiting: list[tuple[dict[str, int | None], Deferred[Any]]] = []
        self.told = 0
        self.asks.on_question = self.tell

    def tell(self) -> None:
        self.told += 1

    @rule(wanted=st.sets(keys, min_size=1, max_size=3))
    def ask(self, wanted: set[str]) -> None:
        names = sorted(wanted)
        permitted: list[Any] = []
        if any(name in self.open for name in names):
            try:
                self.asks.put(dict.fromkeys(names, FORM), permitted=permitted.append)
            except RuntimeError:
                return
            raise AssertionError("a key was asked twice at once")
        told = self.told
        waiting = self.asks.put(dict.fromkeys(names, FORM), permitted=permitted.append)
        answers: dict[str, int | None] = {name: self.given.pop(name, None) for name in names}
        missing = [name for name, number in answers.items() if number is None]
        assert len(permitted) == len(missing)
        assert self.told == told + bool(missing)
        self.open.update(dict.fromkeys(missing))
        self.waiting.append((answers, waiting))

    @rule(answers=st.dictionaries(keys, st.integers(0, 9), max_size=4))
    def answer(self, answers: dict[str, int]) -> None:
        given = {key: accepted(number) for key, number in answers.items()}
        self.asks.check(given)
        self.asks.answer(given)
        for wanted, _ in self.waiting:
            for key in wanted:
                if wanted[key] is None and key in answers:
                    wanted[key] = answers[key]
        for key in answers:
            self.open.pop(key, None)

    @rule(key=keys)
    def answer_wrongly(self, key: str) -> None:
        try:
            self.asks.check({key: {"action": "accept", "content": {"n": "x"}}})
        except McpError:
            assert key in self.open
        else:
            assert key not in self.open

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "asks"):
            return
        assert set(self.asks.open) == set(self.open)
        for wanted, waiting in self.waiting:
            complete = all(number is not None for number in wanted.values())
            assert waiting.called == complete
            if complete:
                assert waiting.result == {
                    key: accepted(number) for key, number in wanted.items() if number is not None
                }


class InterleavingTests(SynchronousTestCase):
    def test_any_order(self) -> None:
        """Whatever is asked and answered in whatever order, each ask goes on when, and only when, it is answered."""
        run_state_machine_as_test(
            Interleaving, settings=settings(max_examples=60, stateful_step_count=20, deadline=None)
        )
