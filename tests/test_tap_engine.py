"""The daemon's engine: where its file is, when it is opened, what is said when that cannot be, and its end."""

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any
from unittest import TestCase

from twisted.internet.defer import Deferred, succeed

from erlmcp import tap
from erlmcp.engine import EngineFileError
from tests.daemon import ERLMCP, PATIENCE, TWISTD, Daemon, environment, free_port
from tests.test_tap_assembly import AssemblyTestCase, uses
from tests.test_tap_daemon import DaemonTestCase


class AssemblyTests(AssemblyTestCase):
    """What becomes of ``[engine]`` and of the state directory."""

    def setUp(self) -> None:
        super().setUp()
        self.state = Path(self.mktemp()).absolute()
        self.state.mkdir()
        self.file = self.state / "engine.db"
        self.text = f"[server]\nstate = '{self.state}'\n[[provider]]\nuse = '{uses('one')[0]}'\n"

    def engine(self, text: str, **options: Any) -> Any:
        settings = self.settings(text)
        parts = tap.assemble(
            settings,
            tap.backends_for(settings, {}),
            self.reactor,
            transports=self.transports,
            environ=options.pop("environ", {}),
            **options,
        )
        self.gauges = {name: read[()] for name, read in parts.counters.gauges.items() if () in read}
        return parts.engine

    def test_file(self) -> None:
        """It is made by the start, not before; its bounds are those of the configuration."""
        engine = self.engine(self.text + "[engine]\nentries = 1\nmemory = '2 KiB'\n")
        self.assertFalse(self.file.exists())
        engine.start()
        self.addCleanup(engine._writes._file.close)
        self.assertEqual(self.file.stat().st_mode & 0o777, 0o600)
        self.successResultOf(engine.put("k", b"v"))
        self.failureResultOf(engine.put("l", b"v"))
        self.failureResultOf(engine.put("k", b"v" * 2048))
        values = {name: read() for name, read in self.gauges.items() if "engine" in name}
        self.assertEqual(
            values,
            {
                "erlmcp_engine_bytes": engine.memory,
                "erlmcp_engine_entries": 1,
                "erlmcp_engine_write_failures_total": 0,
            },
        )

    def test_no_file(self) -> None:
        """Without a state directory, and for ``erlmcp stdio``, which may run beside the daemon."""
        provider = self.text[self.text.index("[[") :]
        for engine in (self.engine(provider), self.engine(self.text, keep_state=False)):
            engine.start()
            self.successResultOf(engine.put("k", b"v", durable=True))
        self.assertFalse(self.file.exists())

    def test_systemd(self) -> None:
        provider = self.text[self.text.index("[[") :]
        engine = self.engine(provider, environ={"STATE_DIRECTORY": str(self.state)})
        engine.start()
        self.addCleanup(engine._writes._file.close)
        self.assertTrue(self.file.exists())

    def test_a_file_that_is_none(self) -> None:
        """It is found with all other problems, and has the line of its directory."""
        self.file.write_text("no database")
        self.file.chmod(0o600)
        (problem,) = self.problems(self.settings(self.text))
        self.assertTrue(problem.startswith(f"2 server.state: {self.file} is no SQLite database"), problem)


class Engine:
    """Notes what it is told."""

    trouble: str | None = None

    def __init__(self, journal: list[str]) -> None:
        self.journal = journal
        self.closing: Deferred[None] = succeed(None)
        self.error: EngineFileError | None = None

    def start(self) -> None:
        self.journal.append("start engine")
        if self.error is not None:
            raise self.error

    def close(self) -> Deferred[None]:
        self.journal.append("close engine")
        return self.closing


class LifeTests(DaemonTestCase):
    """Start and end, with the daemon's."""

    def setUp(self) -> None:
        super().setUp()
        self.engine = Engine(self.journal)

    def daemon(self, *listeners: Any, **options: Any) -> tap.Daemon:
        daemon = super().daemon(*listeners, **options)
        daemon.parts = _with(daemon.parts, self.engine)
        return daemon

    def test_start(self) -> None:
        """It starts when privileges have been shed, and before anything is read; without those, before all."""
        self.started()
        self.assertEqual(self.journal, ["bind one", "bind two", "start engine"])
        self.journal.clear()
        self.daemon().startService()
        self.assertEqual(self.journal, ["start engine", "bind one", "bind two"])

    def test_start_fails(self) -> None:
        self.engine.error = EngineFileError("engine.db is corrupt")
        error = self.assertRaises(tap.StartFailed, self.daemon().startService)
        self.assertEqual(str(error), "erlmcp cannot start:\nengine.db is corrupt")
        self.assertEqual(self.journal, ["start engine"])

    def test_readiness(self) -> None:
        daemon = self.started()
        self.assertIsNone(daemon.unready)
        self.engine.trouble = "database or disk is full"
        self.assertEqual(daemon.unready, "the engine cannot write its file")

    def test_end(self) -> None:
        """Last of all, and not for longer than anything else."""
        daemon = self.started()
        self.engine.closing = Deferred()
        ended = daemon.stopService()
        self.assertEqual(self.journal[-2:], ["stop backend", "close engine"])
        self.assertNoResult(ended)
        self.reactor.advance(2)
        self.successResultOf(ended)
        self.engine.closing.callback(None)


class ProcessTests(TestCase):
    """Real processes on one state directory."""

    def setUp(self) -> None:
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.port = free_port()
        self.file = folder / "state" / "engine.db"
        self.config = folder / "erlmcp.toml"
        self.config.write_text(
            f"[server]\nstate = '{self.file.parent}'\n[[provider]]\nuse = 'erlmcp.examples.demo:provider'\n"
            f"[[listen]]\ntransport = 'http'\nendpoint = 'tcp:{self.port}:interface=127.0.0.1'\n"
        )

    def run_to_end(self, *command: str, text: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            input=text,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
            env=environment(),
        )

    def test_one_daemon_for_a_state_directory(self) -> None:
        """Another one does not start; a check and a client on standard streams do not mind."""
        with Daemon(["--config", str(self.config)], [self.port]) as daemon:
            other = self.config.with_name("other.toml")
            other.write_text(self.config.read_text().replace(f":{self.port}:", f":{free_port()}:"))
            done = self.run_to_end(*TWISTD, "erlmcp", "--config", str(other))
            self.assertEqual(done.returncode, 1)
            self.assertIn(f"{self.file} is in use by another process", done.stdout + done.stderr)
            self.assertNotIn("Traceback", done.stdout + done.stderr)
            self.assertEqual(self.run_to_end(*ERLMCP, "check", str(self.config)).returncode, 0)
            ping = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "ping"}) + "\n"
            done = self.run_to_end(*ERLMCP, "stdio", "--config", str(self.config), text=ping)
            self.assertEqual((done.returncode, json.loads(done.stdout)["id"]), (0, 1), done.stderr)
            self.assertEqual(daemon.stop(), 0, daemon.output())
        self.assertEqual(
            [path.name for path in self.file.parent.iterdir() if "engine" in path.name], [self.file.name]
        )
        with Daemon(["--config", str(self.config)], [self.port]) as daemon:
            self.assertEqual(daemon.stop(), 0, daemon.output())

    def test_a_torn_file(self) -> None:
        with Daemon(["--config", str(self.config)], [self.port]) as daemon:
            daemon.stop()
        whole = self.file.read_bytes()
        self.file.write_bytes(whole[:4096] + bytes(len(whole) - 4096))
        done = self.run_to_end(*TWISTD, "erlmcp", "--config", str(self.config))
        self.assertEqual(done.returncode, 1)
        self.assertIn("erlmcp cannot start:\n", done.stdout + done.stderr)
        self.assertIn(f"{self.file} is corrupt (*** in database main ***, ", done.stdout + done.stderr)
        self.assertNotIn("Traceback", done.stdout + done.stderr)


def _with(parts: tap.Parts, engine: Any) -> tap.Parts:
    kept = {name: getattr(parts, name) for name in parts.__struct_fields__}
    return tap.Parts(**{**kept, "engine": engine})
