"""A daemon that dies without a word leaves nothing behind; and the launcher's parts, one by one."""

import errno
import fcntl
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from erlmcp.processes import launcher
from tests.children import present, wait_until
from tests.daemon import PATIENCE, environment

DAEMON = """
import sys
from twisted.internet import reactor
from erlmcp.processes import Child, ChildLimits, Command

class Ears:
    def data_received(self, data): sys.stdout.write(data.decode()); sys.stdout.flush()
    def drained(self): pass
    def closed(self, what): pass
    def ended(self, exit): pass

command = Command(("/bin/sh", "-c", sys.argv[1]))
child = Child(reactor, command, "kid", Ears(), limits=ChildLimits(orphan_grace=float(sys.argv[2])))
reactor.callWhenRunning(child.start)
reactor.run()
"""


class OrphanTests(SynchronousTestCase):
    def daemon(
        self, script: str, grace: float, count: int
    ) -> tuple[subprocess.Popen[bytes], list[int], list[int]]:
        """A process with one child; the child's own pids, as it prints them, and those above it."""
        daemon = subprocess.Popen(
            [sys.executable, "-c", DAEMON, script, str(grace)], stdout=subprocess.PIPE, env=environment()
        )
        self.addCleanup(daemon.wait, PATIENCE)
        self.addCleanup(daemon.kill)
        assert daemon.stdout is not None
        self.addCleanup(daemon.stdout.close)
        pids = [int(daemon.stdout.readline()) for _ in range(count)]
        return daemon, pids, launcher.descendants(daemon.pid)

    def test_kill_minus_nine(self) -> None:
        """The command, what ignores SIGTERM, what has a session of its own, and the launcher: all gone, and reaped."""
        script = (
            "(trap '' TERM; while :; do sleep 1000; done) & echo $!;"
            "setsid sh -c 'trap \"\" TERM; echo $$; while :; do sleep 1000; done' & echo $$; sleep 1000"
        )
        daemon, pids, _ = self.daemon(script, 0.1, 3)
        # The launcher, three shells, and what each of those waits for: that may come a little after its pid is told.
        wait_until(lambda: len(launcher.descendants(daemon.pid)) == 7, "all seven are there")
        everything = launcher.descendants(daemon.pid)
        self.assertLessEqual(set(pids), set(everything))
        daemon.kill()
        wait_until(lambda: not any(map(present, everything)), f"all of {everything} are gone")

    def test_who_ends_in_time_may(self) -> None:
        """SIGTERM comes first, also then."""
        target = Path(self.mktemp()).absolute()
        script = (
            f"exec 2>/dev/null; trap 'echo so >{target}; exit' TERM; echo $$; while :; do sleep 0.02; done"
        )
        daemon, pids, everything = self.daemon(script, PATIENCE, 1)
        daemon.kill()
        wait_until(lambda: not any(map(present, everything)), f"all of {pids} are gone")
        self.assertEqual(target.read_text(), "so\n")

    def test_a_descriptor_that_somebody_kept(self) -> None:
        """If the pipe outlives the daemon, its death is signalled all the same."""
        script = "echo $$; sleep 1000"
        keeper = DAEMON.replace(
            "reactor.run()",
            "def keep():\n"
            "    import os, time\n"
            "    if os.fork() == 0:\n"
            "        os.setsid(); print(os.getpid(), flush=True); time.sleep(1000)\n"
            "reactor.callLater(0.2, keep)\n"
            "reactor.run()",
        )
        daemon = subprocess.Popen(
            [sys.executable, "-c", keeper, script, "0.1"], stdout=subprocess.PIPE, env=environment()
        )
        self.addCleanup(daemon.wait, PATIENCE)
        self.addCleanup(daemon.kill)
        assert daemon.stdout is not None
        self.addCleanup(daemon.stdout.close)
        pids = [int(daemon.stdout.readline()) for _ in range(2)]
        everything = launcher.descendants(daemon.pid)
        (kept,) = [
            pid for pid in pids if os.getsid(pid) == pid and "launcher" not in command_of(parent_of(pid))
        ]
        self.addCleanup(os.kill, kept, signal.SIGKILL)
        daemon.kill()
        wait_until(lambda: not any(map(present, set(everything) - {kept})), "all but the keeper are gone")


def command_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text()


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


class LeftError(Exception):
    """Stands for the end of a process."""


class BecomeTests(SynchronousTestCase):
    """The half that turns into the command, with the system stubbed out."""

    def setUp(self) -> None:
        self.calls: list[Any] = []
        self.order = launcher.Order()
        self.order.take(b"arg", b"cmd")
        self.read, self.write = os.pipe()
        self.addCleanup(os.close, self.read)
        self.addCleanup(os.close, self.write)

        def leave(status: int) -> None:
            raise LeftError(status)

        for name, stub in {
            "setsid": lambda: self.calls.append("setsid"),
            "getppid": lambda: 5,
            "execvpe": self.execute,
            "_exit": leave,
        }.items():
            self.patch(launcher.os, name, stub)
        self.patch(launcher, "_prctl", lambda *words: self.calls.append(words[:2]))
        self.patch(launcher.signal, "signal", lambda *_: None)
        self.patch(launcher.resource, "setrlimit", lambda number, pair: self.calls.append((number, pair)))
        self.patch(launcher.resource, "getrlimit", lambda _: (0, launcher.resource.RLIM_INFINITY))

    def execute(self, *words: Any) -> None:
        self.calls.append(words)
        raise OSError(errno.ENOENT, "none")

    def become(self, parent: int = 5) -> int:
        with self.assertRaises(LeftError) as caught:
            launcher.become(self.order, parent, self.write)
        status: int = caught.exception.args[0]
        return status

    def said(self) -> bytes:
        return os.read(self.read, 100) if select.select([self.read], [], [], 0)[0] else b""

    def test_no_such_program(self) -> None:
        self.order.take(b"env", b"A=b=c")
        self.assertEqual(self.become(), 127)
        self.assertEqual(self.said(), b"exec 2")
        death = (launcher.PR_SET_PDEATHSIG, signal.SIGKILL)
        self.assertEqual(self.calls, ["setsid", death, (b"cmd", [b"cmd"], {b"A": b"b=c"})])

    def test_no_such_folder(self) -> None:
        self.order.take(b"cwd", b"/none/such")
        self.become()
        self.assertEqual(self.said(), b"chdir 2")

    def test_a_launcher_that_died(self) -> None:
        """Its signal would never come."""
        self.become(parent=6)
        self.assertEqual((self.said(), self.calls[-1][0]), (b"", launcher.PR_SET_PDEATHSIG))

    def test_limits(self) -> None:
        cpu, files = launcher.resource.RLIMIT_CPU, launcher.resource.RLIMIT_NOFILE
        self.order.take(b"limit", b"%d=10" % cpu)
        self.order.take(b"limit", b"%d=20" % files)
        self.become()
        self.assertEqual(self.calls[2:4], [(cpu, (10, 11)), (files, (20, 20))])
        self.calls.clear()
        self.patch(launcher.resource, "getrlimit", lambda _: (0, 10))
        self.become()
        self.assertEqual(self.calls[2:4], [(cpu, (10, 10)), (files, (10, 10))])

    def test_a_limit_that_the_system_refuses(self) -> None:
        def refuse(*_: Any) -> None:
            raise ValueError

        self.order.take(b"limit", b"1=1")
        self.patch(launcher.resource, "setrlimit", refuse)
        self.become()
        self.assertEqual(self.said(), b"limit 22")


class WatchTests(SynchronousTestCase):
    """The half that stays, with the system stubbed out but for its pipes."""

    def setUp(self) -> None:
        self.sent: list[tuple[int, int]] = []
        self.tree = [11, 12]
        self.endings: list[Any] = []
        self.now = 100.0
        self.orders, self.daemon = os.pipe()
        self.reports, report = os.pipe()
        self.failure, self.failing = os.pipe()
        self.wakeup, self.wake = os.pipe()
        self.ends = [
            self.orders,
            self.daemon,
            self.reports,
            report,
            self.failure,
            self.failing,
            self.wakeup,
            self.wake,
        ]
        self.addCleanup(self.close)
        self.patch(launcher, "ORDERS", self.orders)
        self.patch(launcher, "REPORTS", report)
        self.patch(launcher, "descendants", lambda _: list(self.tree))
        self.patch(launcher, "is_wrapper", lambda pid, _: pid == 11)
        self.patch(launcher.os, "kill", self.kill)
        self.patch(launcher.os, "killpg", lambda pid, number: self.kill(-pid, number))
        self.patch(launcher.os, "waitpid", self.wait)
        self.patch(launcher.time, "monotonic", lambda: self.now)
        self.watch = launcher.Watch(launcher.Order(), 11, self.failure, self.wakeup)
        self.watch.order.orphan_grace = 0.02

    def close(self) -> None:
        for fd in self.ends:
            try:
                os.close(fd)
            except OSError:
                continue

    def kill(self, pid: int, number: int) -> None:
        if pid == 12:
            raise ProcessLookupError
        self.sent.append((pid, number))

    def wait(self, *_: Any) -> tuple[int, int]:
        if not self.endings:
            return 0, 0
        ending = self.endings.pop(0)
        if ending is None:
            self.endings = [None]
            raise ChildProcessError
        pid, status = ending
        return pid, status

    def run_until(self, *endings: Any) -> bytes:
        """Run with what has ended by then; what was reported."""
        self.endings = [*endings, None]
        self.watch.run()
        return os.read(self.reports, 1000)

    def test_a_life(self) -> None:
        os.close(self.failing)
        self.assertEqual(self.run_until((99, 0), (11, 3 << 8)), b"started 11\nexited 3\n")
        self.assertEqual(self.sent, [])

    def test_a_command_that_cannot_be_run(self) -> None:
        os.write(self.failing, b"exec 2")
        os.close(self.failing)
        self.assertEqual(self.run_until((11, 127 << 8)), b"failed exec 2\n")

    def test_orders(self) -> None:
        """SIGTERM, and SIGCONT for who is stopped; SIGKILL until nothing is left."""
        self.watch.obey(b"T")
        self.assertEqual(self.sent, [(11, signal.SIGTERM), (11, signal.SIGCONT)])
        self.assertIsNone(self.watch.patience())
        self.watch.obey(b"K")
        self.assertEqual(self.watch.patience(), launcher.PERSISTENCE * 1000)
        os.close(self.failing)
        self.run_until((0, 0), (0, 0))
        self.assertEqual(self.sent[2:], [(11, signal.SIGKILL)] * 3)

    def test_orders_that_came_with_the_command(self) -> None:
        self.watch.order.more = b"K"
        os.close(self.failing)
        self.run_until((11, 9))
        self.assertEqual(self.sent, [(11, signal.SIGKILL)])

    def test_the_wrapper_is_not_asked(self) -> None:
        self.watch.order.wrapper = b"bwrap"
        self.tree = [11, 13]
        self.watch.obey(b"T")
        self.assertEqual(self.sent, [(13, signal.SIGTERM), (13, signal.SIGCONT)])
        self.sent.clear()
        self.watch.signal(signal.SIGKILL)
        self.assertEqual(self.sent, [(11, signal.SIGKILL), (13, signal.SIGKILL)])

    def test_without_proc(self) -> None:
        self.tree = []
        self.watch.signal(signal.SIGTERM)
        self.assertEqual(self.sent, [(-11, signal.SIGTERM)])
        self.watch.leader = -12
        self.watch.signal(signal.SIGTERM)
        self.assertEqual(len(self.sent), 1)

    def test_the_daemon_dies(self) -> None:
        """By its pipe or by a signal, whichever is first; then the time runs."""
        os.close(self.daemon)
        os.write(self.wake, bytes([signal.SIGCHLD, signal.SIGUSR2]))
        os.close(self.failing)
        clock: list[Callable[[], bool]] = []

        def wait(*_: Any) -> tuple[int, int]:
            clock.append(lambda: True)
            if len(clock) == 2:
                self.assertAlmostEqual(self.watch.patience() or 0, 20.0)
                self.now += 2
            if len(clock) == 3:
                raise ChildProcessError
            return 0, 0

        self.patch(launcher.os, "waitpid", wait)
        self.watch.run()
        number = [signal.SIGTERM, signal.SIGCONT, signal.SIGKILL]
        self.assertEqual(self.sent, [(11, each) for each in number])

    def test_nobody_hears_the_report(self) -> None:
        self.patch(launcher, "REPORTS", -1)
        self.watch.report(b"lost\n")


class MainTests(SynchronousTestCase):
    def test_who_is_not_our_parent(self) -> None:
        """A daemon that has died before its launcher could ask to be told: then nothing is run."""
        self.assertEqual(self.launch(b"parent=1\0orphan_grace=1\0arg=true\0\0"), 1)

    def test_a_daemon_that_says_nothing(self) -> None:
        self.assertEqual(self.launch(b""), 1)

    def test_a_command(self) -> None:
        order = b"parent=%d\0orphan_grace=1\0arg=true\0env=PATH=/bin:/usr/bin\0\0" % os.getpid()
        self.assertEqual(self.launch(order), 0)

    def launch(self, order: bytes) -> int:
        orders, write = os.pipe()
        reports, report = os.pipe()
        # Descriptors 3 and 4 of the launcher, by way of numbers that are neither.
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 50) for fd in (orders, report)]
        actions = [
            (os.POSIX_SPAWN_DUP2, high[0], launcher.ORDERS),
            (os.POSIX_SPAWN_DUP2, high[1], launcher.REPORTS),
        ]
        argv = [sys.executable, "-I", "-S", launcher.__file__]
        pid = os.posix_spawn(sys.executable, argv, environment(), file_actions=actions)
        for fd in (orders, report, *high):
            os.close(fd)
        os.write(write, order)
        if not order:
            os.close(write)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if order:
            os.close(write)
        self.assertEqual(bool(os.read(reports, 100)), status == 0)
        os.close(reports)
        return status


class ProcTests(SynchronousTestCase):
    def test_descendants(self) -> None:
        """Children and theirs; names that look like fields do not confuse it."""
        child = subprocess.Popen(["/bin/sh", "-c", "sleep 1000 & wait"])
        self.addCleanup(child.wait)
        self.addCleanup(child.kill)
        wait_until(lambda: launcher.descendants(child.pid), "the child has one of its own")
        (below,) = launcher.descendants(child.pid)
        self.addCleanup(os.kill, below, signal.SIGKILL)
        # There may be others below this process, of other tests.
        found = launcher.descendants(os.getpid())
        self.assertLess(found.index(child.pid), found.index(below))
        wait_until(lambda: launcher.is_wrapper(below, b"sleep"), "that is sleep")
        self.assertFalse(launcher.is_wrapper(below, b"bwrap"))

    def test_what_is_not_there(self) -> None:
        self.assertEqual(launcher.descendants(2**22 + 1), [])
        self.assertFalse(launcher.is_wrapper(2**22 + 1, b"x"))

    def refuse(self, *_: Any) -> Any:
        raise OSError(errno.EACCES, "no")

    def test_what_cannot_be_read(self) -> None:
        self.patch(launcher.os, "read", self.refuse)
        self.assertEqual(launcher.descendants(os.getpid()), [])
        self.assertFalse(launcher.is_wrapper(os.getpid(), b"x"))
        self.patch(launcher.os, "open", self.refuse)
        self.assertEqual(launcher.descendants(os.getpid()), [])
        self.patch(launcher.os, "listdir", self.refuse)
        self.assertEqual(launcher.descendants(os.getpid()), [])
