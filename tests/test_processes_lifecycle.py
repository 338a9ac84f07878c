"""The table of a child's life: what it promises whatever happens, in whatever order."""

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.processes._lifecycle import TABLE, Effect, Input, State, step

TIMED = {State.STARTING, State.CLOSING, State.TERMINATING, State.KILLING}


class LifecycleTests(SynchronousTestCase):
    def test_every_limit_of_time_leads_on(self) -> None:
        """No state that has one can last: its end does something."""
        for state in TIMED:
            self.assertTrue(step(state, Input.DUE)[1], state)
        for state in set(State) - TIMED:
            self.assertEqual(step(state, Input.DUE), (state, ()))

    def test_the_end_is_reached_step_by_step(self) -> None:
        state, seen = State.NEW, []
        for happened in (Input.LAUNCH, Input.STARTED, Input.END, Input.DUE, Input.DUE, Input.DUE, Input.GONE):
            state, effects = step(state, happened)
            seen.extend(effects)
        self.assertEqual(
            seen,
            [
                Effect.SPAWN,
                Effect.SAY_STARTED,
                Effect.CLOSE_INPUT,
                Effect.TERMINATE,
                Effect.KILL,
                Effect.KILL_LAUNCHER,
                Effect.SAY_EXITED,
                Effect.SAY_GONE,
            ],
        )
        self.assertIs(state, State.GONE)

    def test_whatever_outlives_its_command_is_ended(self) -> None:
        self.assertEqual(step(State.RUNNING, Input.EXITED)[1], (Effect.SAY_EXITED, Effect.TERMINATE))
        self.assertEqual(step(State.TERMINATING, Input.DUE), (State.KILLING, (Effect.KILL,)))

    @settings(deadline=None)
    @given(st.lists(st.sampled_from(sorted(Input, key=lambda happened: happened.name)), max_size=20))
    def test_any_story(self, story: list[Input]) -> None:
        """Whoever waits hears once of a start, and of the end exactly when nothing is left."""
        state, seen = State.NEW, []
        launched = False
        for happened in story:
            before = state
            state, effects = step(state, happened)
            seen.extend(effects)
            launched = launched or Effect.SPAWN in effects
            self.assertGreaterEqual(state.value, before.value, "it never goes back")
            if happened is Input.GONE and launched:
                self.assertIs(state, State.GONE)
        self.assertLessEqual(seen.count(Effect.SPAWN), 1)
        self.assertLessEqual(seen.count(Effect.SAY_STARTED) + seen.count(Effect.SAY_REFUSED), 1)
        self.assertEqual(seen.count(Effect.SAY_GONE), int(state is State.GONE))
        if launched and state is State.GONE:
            self.assertEqual(seen.count(Effect.SAY_STARTED) + seen.count(Effect.SAY_REFUSED), 1)
            if Effect.SAY_STARTED in seen:
                self.assertIn(Effect.SAY_EXITED, seen)

    def test_the_drawing_has_every_row(self) -> None:
        """docs/machines/child-process.md names each state that the table goes to."""
        from tests.daemon import ROOT

        drawing = (ROOT / "docs" / "machines" / "child-process.md").read_text()
        for (state, happened), (after, _) in TABLE.items():
            arrow = f"{state.name} --> {after.name}: {happened.name}"
            self.assertIn(arrow, drawing)
