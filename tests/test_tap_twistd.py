"""The usual ways to run a Twisted service, each as a process: in the background, --uid, --chroot, a .tac file."""

import json
import os
import pwd
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import TestCase

from tests.daemon import PATIENCE, TWIST, TWISTD, Daemon, environment, free_port
from tests.skips import need
from tests.test_tap_process import post

BACKGROUND = TWISTD[:-2]
TAC = """
import sys
from twisted.application.service import Application
from twisted.logger import ILogObserver
from erlmcp.tap import Options, makeService

options = Options()
options.parseOptions(["--config", {config!r}])
application = Application("erlmcp")
application.setComponent(ILogObserver, options.log_observer())
makeService(options).setServiceParent(application)
"""


def until(found: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not found():
        if time.monotonic() > deadline:
            raise AssertionError(f"not in time: {what}")
        time.sleep(0.01)


class TwistdTestCase(TestCase):
    def setUp(self) -> None:
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/mcp"

    def configuration(self, more: str = "") -> Path:
        file = self.folder / "erlmcp.toml"
        file.write_text(
            '[[provider]]\nuse = "erlmcp.examples.demo:provider"\n'
            f'[[listen]]\ntransport = "http"\nendpoint = "tcp:{self.port}:interface=127.0.0.1"\n{more}'
        )
        return file

    def run_to_end(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
            cwd=self.folder,
            env=environment(),
            stdin=subprocess.DEVNULL,
        )

    def echoes(self) -> None:
        answer = post(self.url, "tools/call", name="echo", arguments={"message": "hello"})
        self.assertEqual(answer["content"], [{"type": "text", "text": "hello"}])


class BackgroundTests(TwistdTestCase):
    """``twistd erlmcp``: forked into the background, found again by its pid file."""

    def start(self, *options: str, more: str = "", before: tuple[str, ...] = ()) -> int:
        """Start it; its pid. twistd returns once it is up."""
        done = self.run_to_end(
            *before, *BACKGROUND, "--pidfile=erlmcp.pid", "--logfile=erlmcp.log", *options, "erlmcp",
            "--config", str(self.configuration(more)),
        )  # fmt: skip
        log = self.folder / "erlmcp.log"
        said = log.read_text() if log.exists() else ""
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr + said)
        pid = int((self.folder / "erlmcp.pid").read_text())
        self.addCleanup(self.end, pid)
        return pid

    def end(self, pid: int) -> None:
        if self.runs(pid):
            os.kill(pid, signal.SIGTERM)
            until(lambda: not self.runs(pid), "the end of the daemon")

    def runs(self, pid: int) -> bool:
        """Whether the daemon that we started still runs (and is not another's that got its number)."""
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")")[1].split()[0]
            return state != "Z" and str(self.folder).encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return False

    def test_life(self) -> None:
        pid = self.start()
        # The parent has returned, so the listeners are bound: nobody has to wait for them.
        self.echoes()
        self.assertNotEqual(os.getsid(pid), os.getsid(0))
        self.assertEqual({str(Path(f"/proc/{pid}/fd/{n}").readlink()) for n in range(3)}, {"/dev/null"})
        log = self.folder / "erlmcp.log"
        until(lambda: "ready" in log.read_text(), "the log")
        os.kill(pid, signal.SIGUSR1)
        until(lambda: (self.folder / "erlmcp.log.1").exists(), "the log's rotation")
        self.end(pid)
        self.assertFalse((self.folder / "erlmcp.pid").exists())
        self.assertIn("SIGTERM: draining", log.read_text())
        self.assertIn("stopped", log.read_text())

    def test_a_second_one(self) -> None:
        """The pid file of one that runs is not overwritten."""
        pid = self.start()
        done = self.run_to_end(*BACKGROUND, "--pidfile=erlmcp.pid", "--logfile=two.log", "erlmcp")
        self.assertNotEqual(done.returncode, 0)
        self.assertEqual(int((self.folder / "erlmcp.pid").read_text()), pid)
        self.echoes()

    def test_uid(self) -> None:
        """Ports are bound as root; keys, engine and requests are the user's. Root cannot be had again."""
        need(os.geteuid() == 0, "only root can become another user")
        nobody = pwd.getpwnam("nobody")
        state = self.folder / "state"
        state.mkdir(mode=0o700)
        os.chown(state, nobody.pw_uid, nobody.pw_gid)
        self.port = _free_low_port()
        self.url = f"http://127.0.0.1:{self.port}/mcp"
        self.folder.chmod(0o755)
        more = f'[server]\nstate = "{state}"\n'
        here = _reachable(Path(sys.executable), Path(__file__), Path(os.__file__), self.folder)
        pid = self.start(
            "--uid=nobody", f"--gid={nobody.pw_gid}", more=more, before=() if here else KEEPING_CAPABILITIES
        )
        status = Path(f"/proc/{pid}/status").read_text()
        self.assertEqual(re.findall(r"(?m)^Uid:\t(.*)$", status), ["\t".join([str(nobody.pw_uid)] * 4)])
        self.assertEqual(re.findall(r"(?m)^Gid:\t(.*)$", status), ["\t".join([str(nobody.pw_gid)] * 4)])
        self.echoes()
        for name in ("keys", "engine.db"):
            until((state / name).exists, name)
            self.assertEqual((state / name).stat().st_uid, nobody.pw_uid, name)
        self.end(pid)


# The interpreter may lie where nobody but root can go, such as /root: then the user keeps root's way past file
# permissions (capabilities(7), SECBIT_NO_SETUID_FIXUP), and is still another user.
KEEPING_CAPABILITIES = (
    sys.executable,
    "-c",
    "import ctypes, os, sys; assert ctypes.CDLL(None).prctl(28, 4, 0, 0, 0) == 0; os.execv(sys.argv[1], sys.argv[1:])",
)


def _reachable(*paths: Path) -> bool:
    """Whether others may go where these lie."""
    return all(folder.stat().st_mode & 0o001 for path in paths for folder in path.resolve().parents)


def _free_low_port() -> int:
    """A port that only root may bind."""
    import socket

    for port in range(1023, 600, -1):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no privileged port is free")


class ChrootTests(TwistdTestCase):
    """``twistd --chroot``: refused with the reason and the way that works, before anything is done."""

    def test_refused(self) -> None:
        done = self.run_to_end(*TWISTD, f"--chroot={self.folder}", "erlmcp")
        self.assertEqual(done.returncode, 1)
        self.assertIn("twistd --chroot: the interpreter imports modules as it needs them", done.stderr)
        self.assertIn("RootDirectory=", done.stderr)
        self.assertNotIn("Traceback", done.stderr)


class TacTests(TwistdTestCase):
    """``twistd -y erlmcp.tac``."""

    def test_life(self) -> None:
        tac = self.folder / "erlmcp.tac"
        tac.write_text(TAC.format(config=str(self.configuration('[telemetry]\nlog = "json"\n'))))
        with Tac(tac, self.port) as daemon:
            self.echoes()
            self.assertEqual(daemon.stop(), 0, daemon.output())
            messages = [json.loads(line)["message"] for line in daemon.output().splitlines()]
        self.assertIn("ready", messages)
        self.assertIn("stopped", messages)


class Tac(Daemon):
    """twistd with a file of one's own."""

    def __init__(self, tac: Path, port: int) -> None:
        super().__init__([], [port])
        self.command = [*TWISTD, "-y", str(tac)]


class LogTests(TwistdTestCase):
    """Who writes the log, and in which form."""

    def served(
        self, telemetry: str, under: tuple[str, ...], extra: dict[str, str] | None = None
    ) -> list[str]:
        options = ["--config", str(self.configuration(f"[telemetry]\n{telemetry}\n"))]
        with Daemon(options, [self.port], under=under, extra=extra) as daemon:
            self.echoes()
            self.assertEqual(daemon.stop(), 0, daemon.output())
            return daemon.output().splitlines()

    def test_json_and_access(self) -> None:
        records = [json.loads(line) for line in self.served('log = "json"\naccess_log = 1.0', TWISTD)]
        (access,) = [one for one in records if one["logger"] == "erlmcp.access"]
        self.assertEqual(
            (access["method"], access["name"], access["outcome"]), ("tools/call", "echo", "complete")
        )
        self.assertNotIn("hello", json.dumps(records))

    def test_arguments_if_asked_for(self) -> None:
        lines = self.served('log = "json"\naccess_log = 1.0\nlog_arguments = true', TWISTD)
        (access,) = [one for one in map(json.loads, lines) if one["logger"] == "erlmcp.access"]
        self.assertEqual(access["arguments"], '{"message":"hello"}')

    def test_twist(self) -> None:
        records = [json.loads(line) for line in self.served("", TWIST)]
        self.assertIn("ready", [one["message"] for one in records])
        self.assertTrue(any(line.endswith("ready") for line in self.served('log = "text"', TWIST)))

    def test_an_observer_of_the_operators(self) -> None:
        lines = self.served('log = "json"', (*TWISTD, "--logger=tests.peers.failing_provider.observer"))
        self.assertIn("mine: ready", lines)

    def test_journal(self) -> None:
        """Where systemd says that its journal reads the log, the lines have priorities."""
        script = (
            "import os, sys; found = os.fstat(1);"
            "os.environ['JOURNAL_STREAM'] = f'{found.st_dev}:{found.st_ino}';"
            "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
        )
        lines = self.served("", (sys.executable, "-c", script, *TWISTD[1:]))
        self.assertIn("<6>[erlmcp.tap] ready", lines)
        self.assertTrue(all(line.startswith("<") for line in lines), lines)


class FailingToolTests(TwistdTestCase):
    """A tool that fails: its caller gets an id, the log has the error under it, and nothing that was asked."""

    def test_reference(self) -> None:
        self.fails_with_a_reference("")

    def test_reference_from_a_worker(self) -> None:
        """The log is the parent's, in the configured form, whoever has failed."""
        self.fails_with_a_reference("[server]\nworkers = 1\n")

    def fails_with_a_reference(self, more: str) -> None:
        options = ["--config", str(self.configuration(f'{more}[telemetry]\nlog = "json"\n'))]
        options += ["--provider", "tests.peers.failing_provider:provider"]
        with Daemon(options, [self.port]) as daemon:
            answer = post(self.url, "tools/call", name="explode", arguments={"secret": "hunter2!"})
            self.assertTrue(answer["isError"])
            reference = re.findall(r"[0-9a-f]{12}", json.dumps(answer["content"]))[0]
            self.assertEqual(daemon.stop(), 0)
            records = [json.loads(line) for line in daemon.output().splitlines()]
        (found,) = [one for one in records if one.get("reference") == reference]
        self.assertIn("ValueError: invalid literal for int() with base 10: '[…]'", found["traceback"])
        self.assertEqual(
            (found["level"], found["method"], found["name"]), ("critical", "tools/call", "explode")
        )
        self.assertNotIn("hunter2!", json.dumps(records))
