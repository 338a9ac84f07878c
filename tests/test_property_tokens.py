"""Sealed tokens that were forged, cut or borrowed, through the whole server: each refused, none of the others hurt."""

from twisted.trial.unittest import SynchronousTestCase

from tests.forgeries import EXPECTED, attack


class ForgeryTests(SynchronousTestCase):
    """``python -m tests.forgeries`` tries a million."""

    def test_each_is_refused(self) -> None:
        """As a lost session, or as a parameter that is wrong; nothing is logged as a failure."""
        refused, wrong, _ = attack(20_000, 20260728)
        self.assertEqual(wrong, [])
        self.assertEqual(set(refused), set(EXPECTED))
        self.assertGreater(refused.total(), 18_000)
