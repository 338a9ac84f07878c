"""What is written in one stretch of work leaves at its end, in its order, and is never lost."""

from twisted.trial.unittest import SynchronousTestCase

from erlmcp.transports._burst import MOST, Burst


class BurstTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.burst = Burst()
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        """As a connection does."""
        if self.burst.depth:
            self.burst.hold(self.write_now, data)
        else:
            self.write_now(data)

    def write_now(self, data: bytes) -> None:
        self.written.append(data)
        if data == b"and":
            self.write(b"more")

    def test_at_the_end(self) -> None:
        with self.burst:
            self.write(b"a")
            with self.burst:
                self.write(b"b")
            self.assertEqual(self.written, [])
        self.assertEqual(self.written, [b"a", b"b"])
        self.write(b"c")
        self.assertEqual(self.written, [b"a", b"b", b"c"])

    def test_what_writes_as_it_is_written(self) -> None:
        """It comes after what was held, and is sent in the same go."""
        with self.burst:
            for data in (b"and", b"b"):
                self.write(data)
        self.assertEqual(self.written, [b"and", b"b", b"more"])
        self.assertEqual(self.burst.depth, 0)

    def test_no_more_than_so_many(self) -> None:
        with self.burst:
            for _ in range(MOST + 1):
                self.write(b"x")
            self.assertEqual(len(self.written), MOST)
        self.assertEqual(len(self.written), MOST + 1)

    def test_a_failure(self) -> None:
        """Neither that of the work nor that of one writer keeps the others' from being sent."""

        def fail(_: bytes) -> None:
            raise KeyError("x")

        with self.assertRaises(ValueError), self.burst:
            self.burst.hold(fail, b"a")
            self.write(b"b")
            raise ValueError
        self.assertEqual(self.written, [b"b"])
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)
