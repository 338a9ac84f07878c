"""Secrets and sealing keys: where they are from, and what is said when they are not there."""

import base64
import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from erlmcp.config import Secret, ServerSettings, new_key, parse_keys, sealing_keys, state_directory


class SecretTests(SynchronousTestCase):
    """`Secret.read`."""

    def test_environment(self) -> None:
        self.assertEqual(Secret(env="A").read({"A": "x"}), b"x")
        error = self.assertRaises(ValueError, Secret(env="A").read, {})
        self.assertEqual(str(error), "the environment has no variable A")

    def test_file(self) -> None:
        path = Path(self.mktemp())
        error = self.assertRaises(ValueError, Secret(file=str(path)).read, {})
        self.assertEqual(str(error), f"{path} cannot be read: No such file or directory")
        path.write_bytes(b"y")
        self.assertEqual(Secret(file=str(path)).read({}), b"y")

    def test_credential(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        (folder / "k").write_bytes(b"z")
        self.assertEqual(Secret(credential="k").read({"CREDENTIALS_DIRECTORY": str(folder)}), b"z")
        error = self.assertRaises(ValueError, Secret(credential="k").read, {})
        self.assertIn("$CREDENTIALS_DIRECTORY is not set", str(error))


class KeyTextTests(SynchronousTestCase):
    """Keys as text."""

    def test_round_trip(self) -> None:
        one, two = new_key(), new_key()
        self.assertNotEqual(one, two)
        keys = parse_keys(f"# newest\n{one}\n\n  {two}=  \r\n".encode())
        self.assertEqual(keys[0], base64.urlsafe_b64decode(one + "="))
        self.assertEqual([len(key) for key in keys], [32, 32])

    def test_wrong(self) -> None:
        for bad in (b"abc", b"!" * 43, new_key().encode()[:-1], new_key().encode() + b"AA", b"\xff" * 43):
            error = self.assertRaises(ValueError, parse_keys, b"#\n" + bad)
            self.assertIn("line 2 is no sealing key", str(error))
            self.assertNotIn(bad.decode("latin-1"), str(error))
        self.assertIn("no sealing key in it", str(self.assertRaises(ValueError, parse_keys, b"# none\n")))


class SealingKeysTests(SynchronousTestCase):
    """`sealing_keys`: configured, kept, or for this process alone."""

    def setUp(self) -> None:
        self.state = Path(self.mktemp())
        self.file = self.state / "keys"
        self.server = ServerSettings(state=str(self.state))

    def test_configured(self) -> None:
        text = new_key()
        found = sealing_keys(ServerSettings(keys=Secret(env="K")), {"K": text})
        self.assertEqual(found.keys, parse_keys(text.encode()))

    def test_ephemeral(self) -> None:
        first, second = sealing_keys(ServerSettings(), {}), sealing_keys(ServerSettings(), {})
        self.assertNotEqual(first.keys, second.keys)
        self.assertIn("no state directory", first.origin)

    def test_made_once(self) -> None:
        first = sealing_keys(self.server, {})
        self.assertEqual(self.file.stat().st_mode & 0o777, 0o600)
        self.assertEqual(self.state.stat().st_mode & 0o777, 0o700)
        self.assertEqual(sealing_keys(self.server, {}), first)
        self.assertEqual(first.origin, str(self.file))
        self.assertEqual([entry.name for entry in self.state.iterdir()], ["keys"])

    def test_made_by_root_for_the_owner_of_the_directory(self) -> None:
        """With --uid root makes it, and the daemon must be able to read it when it is started as that user."""
        self.state.mkdir(mode=0o700)
        if os.geteuid() == 0:
            os.chown(self.state, 12345, 12345)
        given: list[tuple[int, int]] = []
        self.patch(os, "geteuid", lambda: 0)
        self.patch(os, "fchown", lambda _, uid, gid: given.append((uid, gid)))
        sealing_keys(self.server, {})
        owner = self.state.stat()
        self.assertEqual(given, [(owner.st_uid, owner.st_gid)])

    def test_made_by_another_process_meanwhile(self) -> None:
        """The one that was first wins, and both have it."""
        self.state.mkdir()
        theirs = new_key()
        original = os.fsync

        def meanwhile(descriptor: int) -> None:
            original(descriptor)
            self.file.write_text(theirs)
            self.file.chmod(0o600)

        self.patch(os, "fsync", meanwhile)
        self.assertEqual(sealing_keys(self.server, {}).keys, parse_keys(theirs.encode()))

    def test_only_looked_for(self) -> None:
        found = sealing_keys(self.server, {}, make=False)
        self.assertIn("which the daemon makes", found.origin)
        self.assertFalse(self.state.exists())

    def test_too_open(self) -> None:
        sealing_keys(self.server, {})
        self.file.chmod(0o640)
        error = self.assertRaises(ValueError, sealing_keys, self.server, {})
        self.assertIn(f"chmod 600 {self.file}", str(error))

    def test_damaged(self) -> None:
        sealing_keys(self.server, {})
        self.file.write_text("?")
        error = self.assertRaises(ValueError, sealing_keys, self.server, {})
        self.assertTrue(str(error).startswith(f"{self.file}: line 1 is no sealing key"))

    def test_unreadable(self) -> None:
        self.file.mkdir(parents=True)
        error = self.assertRaises(ValueError, sealing_keys, self.server, {})
        self.assertEqual(str(error), f"{self.file} cannot be read: Is a directory")

    def test_no_place_for_them(self) -> None:
        server = ServerSettings(state=str(self.state / "missing"))
        error = self.assertRaises(ValueError, sealing_keys, server, {})
        self.assertEqual(str(error), f"{self.state}/missing/keys cannot be made: No such file or directory")

    def test_systemd(self) -> None:
        self.assertEqual(state_directory(ServerSettings(), {"STATE_DIRECTORY": "/a:/b"}), Path("/a"))
        self.assertEqual(state_directory(ServerSettings(state="/c"), {"STATE_DIRECTORY": "/a"}), Path("/c"))
        self.assertIsNone(state_directory(ServerSettings(), {}))
