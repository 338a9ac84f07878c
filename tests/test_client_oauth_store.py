"""Where credentials are kept: the file's mode, its owner, its replacement, its bounds."""

import json
import os
import stat
import threading
from pathlib import Path
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from erlmcp.client.oauth import CredentialStore, FileStore, MemoryStore, StoreKey


def key(name: str, kind: str = "token") -> StoreKey:
    return StoreKey(kind, "", "https://as.example", name)


class FileTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.path = self.folder / "credentials.json"

    def test_comes_back(self) -> None:
        for store in (MemoryStore(), FileStore(self.path)):
            self.keep(store)
        self.assertEqual(FileStore(self.path).load(key("a")), {"x": 2})

    def keep(self, store: CredentialStore) -> None:
        self.assertIsNone(store.load(key("a")))
        store.save(key("a"), {"x": 1})
        store.save(key("b"), {"y": ["é"]})
        store.save(key("a"), {"x": 2})
        self.assertEqual((store.load(key("a")), store.load(key("b"))), ({"x": 2}, {"y": ["é"]}))
        self.assertIsNone(store.load(key("a", "client")))
        store.forget(key("b"))
        store.forget(key("b"))
        self.assertIsNone(store.load(key("b")))

    def test_modes(self) -> None:
        before = os.umask(0)
        try:
            FileStore(self.path).save(key("a"), {})
        finally:
            os.umask(before)
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(self.folder.stat().st_mode), 0o700)
        self.assertEqual(
            sorted(entry.name for entry in self.folder.iterdir()),
            ["credentials.json", "credentials.json.lock"],
        )

    def test_a_file_that_others_can_read(self) -> None:
        store = FileStore(self.path)
        store.save(key("a"), {})
        self.path.chmod(0o640)
        for use in (
            lambda: FileStore(self.path),
            lambda: store.load(key("a")),
            lambda: store.save(key("a"), {}),
        ):
            with self.assertRaisesRegex(ValueError, "mode 0640.*chmod 600"):
                use()

    def test_what_is_no_file(self) -> None:
        self.folder.mkdir()
        os.mkfifo(self.path, 0o600)
        with self.assertRaisesRegex(ValueError, "no regular file"):
            FileStore(self.path)

    def test_a_lock_that_leads_elsewhere(self) -> None:
        store = FileStore(self.path)
        elsewhere = self.folder / "elsewhere"
        Path(f"{self.path}.lock").symlink_to(elsewhere.absolute())
        with self.assertRaises(OSError):
            store.save(key("a"), {})
        self.assertFalse(elsewhere.exists())

    def test_a_file_of_somebody_else(self) -> None:
        FileStore(self.path).save(key("a"), {})
        with mock.patch("os.geteuid", return_value=12345), self.assertRaisesRegex(ValueError, "not to 12345"):
            FileStore(self.path)

    def test_a_file_that_is_none(self) -> None:
        self.folder.mkdir()
        for text in (
            "",
            "[]",
            "{}",
            '{"credentials": [{"key": ["a"], "record": {}}]}',
            '{"credentials": 1}',
            "[" * 10**5,
        ):
            self.path.write_text(text)
            self.path.chmod(0o600)
            with self.assertRaisesRegex(ValueError, "is no file of credentials.*move it away"):
                FileStore(self.path)
        self.path.write_text(" " * (4 * 1024 * 1024 + 1))
        with self.assertRaisesRegex(ValueError, "too large"):
            FileStore(self.path)

    def test_the_oldest_go(self) -> None:
        rows = [{"key": ["token", "", "i", str(number)], "record": {}} for number in range(1000)]
        self.folder.mkdir()
        self.path.write_text(json.dumps({"credentials": rows}))
        self.path.chmod(0o600)
        memory = MemoryStore()
        for row in rows:
            memory.save(StoreKey(*row["key"]), {})  # type: ignore[misc]
        for store in (memory, FileStore(self.path)):
            store.save(key("new"), {"n": 1})
            self.assertIsNone(store.load(StoreKey("token", "", "i", "0")))
            self.assertEqual(store.load(StoreKey("token", "", "i", "1")), {})
            self.assertEqual(store.load(key("new")), {"n": 1})

    def test_a_write_that_fails_leaves_what_there_was(self) -> None:
        store = FileStore(self.path)
        store.save(key("a"), {"x": 1})
        with mock.patch("os.fsync", side_effect=OSError("full")), self.assertRaises(OSError):
            store.save(key("a"), {"x": 2})
        self.assertEqual(store.load(key("a")), {"x": 1})
        self.assertEqual(len(list(self.folder.iterdir())), 2)

    def test_several_writers_lose_nothing(self) -> None:
        FileStore(self.path)

        def write(writer: int) -> None:
            store = FileStore(self.path)
            for number in range(10):
                store.save(key(f"{writer}-{number}"), {"n": number})

        threads = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        store = FileStore(self.path)
        for writer in range(4):
            for number in range(10):
                self.assertEqual(store.load(key(f"{writer}-{number}")), {"n": number})
