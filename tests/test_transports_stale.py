"""Unix sockets that a killed daemon has left: removed if nobody listens there, whoever has its process id now."""

import os
import socket
import tempfile
from pathlib import Path
from unittest import TestCase

from erlmcp.transports import clear_stale

LONG_AGO = 1_000_000_000


class StaleTests(TestCase):
    """What becomes of a socket and its lock."""

    def setUp(self) -> None:
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.path, self.lock = folder / "s", folder / "s.lock"

    def left(self, owner: int, *, old: bool = True) -> None:
        """Leave a socket and its lock behind."""
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(str(self.path))
        self.lock.symlink_to(str(owner))
        if old:
            os.utime(self.lock, (LONG_AGO, LONG_AGO), follow_symlinks=False)

    def there(self) -> tuple[bool, bool]:
        clear_stale(str(self.path))
        return os.path.lexists(self.path), os.path.lexists(self.lock)

    def test_somebody_else_has_its_process_id(self) -> None:
        self.left(1)
        self.assertEqual(self.there(), (False, False))

    def test_we_have_its_process_id(self) -> None:
        self.left(os.getpid(), old=False)
        self.assertEqual(self.there(), (False, False))

    def test_a_lock_alone(self) -> None:
        self.left(1)
        self.path.unlink()
        self.assertEqual(self.there(), (False, False))

    def test_somebody_is_about_to_listen(self) -> None:
        self.left(1, old=False)
        self.assertEqual(self.there(), (True, True))

    def test_somebody_listens(self) -> None:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(str(self.path))
            one.listen()
            self.lock.symlink_to(str(os.getpid()))
            self.assertEqual(self.there(), (True, True))

    def test_no_socket_there(self) -> None:
        self.path.write_text("precious")
        self.lock.symlink_to(str(os.getpid()))
        clear_stale(str(self.path))
        self.assertTrue(self.path.exists())

    def test_nothing_is_there(self) -> None:
        self.assertEqual(self.there(), (False, False))

    def test_no_path(self) -> None:
        folder = self.path.parent
        for _ in range(3):
            folder = folder / ("x" * 100)
            folder.mkdir()
        (folder / "s.lock").symlink_to(str(os.getpid()))
        clear_stale(str(folder / "s"))
        self.assertTrue(os.path.lexists(folder / "s.lock"))
