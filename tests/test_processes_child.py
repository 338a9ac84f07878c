"""Real children: how they start, talk, fail, and end with all that they started."""

import os
import resource
import signal
import socket
import sys
from unittest import mock

from twisted.internet import reactor
from twisted.internet.defer import gatherResults
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from erlmcp.processes import Child, ChildLimits, Command, Confinement, Exit, Grace, LaunchError, State
from erlmcp.processes._child import _kill_group
from erlmcp.processes._pipes import STDOUT, Pipes
from tests.children import (
    PATIENT,
    QUICK,
    ChildCase,
    Ears,
    descriptors,
    names,
    present,
    python,
    running,
    sh,
    wait_until,
)
from tests.skips import need_bwrap


class StartTests(ChildCase):
    async def test_a_life(self) -> None:
        child, ears = self.child(Command(("cat",)))
        self.assertIs(child.state, State.NEW)
        await child.start()
        self.assertIs(child.state, State.RUNNING)
        pid = child.pid
        assert pid is not None
        self.assertNotEqual(os.getsid(pid), os.getsid(0))
        self.assertEqual((os.getsid(pid), os.getpgid(pid)), (pid, pid))
        self.assertTrue(child.write(b"hello\n"))
        await ears.until(lambda: ears.output == b"hello\n")
        end = await child.end()
        self.assertEqual((end.code, ears.heard), (0, ["exit code 0"]))
        self.assertFalse(present(pid))
        self.assertIs(child.state, State.GONE)
        self.assertIs(await child.end(), end)
        self.assertFalse(child.write(b"more"))
        with self.assertRaisesRegex(RuntimeError, "a child is used once"):
            child.start()

    async def refusal(self, command: Command) -> str:
        child, ears = self.child(command)
        try:
            await child.start()
        except LaunchError as error:
            self.assertIsNone((await child.end()).code)
            self.assertEqual(ears.heard, [])
            return str(error)
        raise AssertionError("it started")

    async def test_refusals(self) -> None:
        self.assertEqual(
            await self.refusal(Command(("nonesuch",), env={"PATH": "/a:/b"})),
            "kid could not be started: nonesuch: No such file or directory (looked for in PATH=/a:/b)",
        )
        self.assertEqual(
            await self.refusal(Command(("/etc/passwd",))),
            "kid could not be started: /etc/passwd: Permission denied",
        )
        self.assertEqual(
            await self.refusal(sh("true", cwd="/none/such")),
            "kid could not be started: its folder /none/such: No such file or directory",
        )

    async def test_without_a_launcher(self) -> None:
        self.patch(sys, "executable", "/none/such")
        self.assertIn("could not be started: /none/such: No such file", await self.refusal(sh("true")))

    async def test_with_a_launcher_that_fails(self) -> None:
        import erlmcp.processes._child as module

        self.patch(module, "LAUNCHER", "/none/such.py")
        child, _ = self.child(sh("true"))
        with self.assertRaisesRegex(LaunchError, "its launcher ended with exit code 2") as caught:
            await child.start()
        self.assertIn("/none/such.py", caught.exception.tail)

    def test_other_refusals(self) -> None:
        child, _ = self.child(sh("true"))
        self.assertEqual(child._why(b"limit", b"22"), "its limit: Invalid argument")

    async def test_ended_before_it_ran(self) -> None:
        child, _ = self.child(sh("sleep 1000"))
        started = child.start()
        ended = child.end()
        with self.assertRaisesRegex(LaunchError, "it was ended before it ran"):
            await started
        self.assertEqual(await ended, Exit(None))

    async def test_ended_before_it_was_started(self) -> None:
        child, _ = self.child(sh("sleep 1000"))
        self.assertEqual(await child.end(), Exit(None))
        with self.assertRaises(RuntimeError):
            child.start()

    async def test_a_start_that_takes_too_long(self) -> None:
        import erlmcp.processes._child as module

        script = self.folder() / "launcher.py"
        script.write_text("import time\nwhile True: time.sleep(1000)\n")
        self.patch(module, "LAUNCHER", str(script))
        child, _ = self.child(sh("true"), limits=ChildLimits(start=0.05), grace=Grace(0, 0, 0.05))
        with self.assertRaisesRegex(LaunchError, r"it did not run within 0.05 s"):
            await child.start()
        await child.end()
        self.assertEqual(len(self.flushLoggedErrors()), 0)

    async def test_its_environment_and_folder(self) -> None:
        folder = self.folder()
        child, ears = self.child(sh("pwd; env", cwd=str(folder), env={"GIVEN": "a\nb"}))
        self.patch(os, "environ", {**os.environ, "SECRET_TOKEN": "x"})
        await child.start()
        await ears.until(lambda: ears.exit)
        lines = ears.output.decode().split("\n")
        self.assertEqual(lines[0], str(folder))
        self.assertIn("GIVEN=a", lines)
        self.assertNotIn("SECRET_TOKEN", ears.output.decode())

    async def test_signals_and_descriptors_are_as_a_program_expects(self) -> None:
        """Nothing is ignored or blocked, and nothing open but the three."""
        # Python ignores two signals for itself, so a program that does not looks.
        child, ears = self.child(sh("grep -E 'Sig(Blk|Ign)' /proc/self/status; ls /proc/self/fd"))
        await child.start()
        await ears.until(lambda: ears.exit)
        _, blocked, _, ignored, *descriptors = ears.output.split()
        # Two that no program can name belong to the C library.
        of_the_library = 1 << 31 | 1 << 32
        self.assertEqual((int(blocked, 16), int(ignored, 16) & ~of_the_library), (0, 0))
        self.assertEqual(descriptors, [b"0", b"1", b"2", b"3"], "the last is the listing's own")


class TalkTests(ChildCase):
    async def test_what_it_does_not_read_is_bounded(self) -> None:
        child, ears = self.child(sh("read x; cat >/dev/null; echo done"), limits=ChildLimits(input=1_000_000))
        await child.start()
        piece = b"x" * 99_999 + b"\0"
        taken = 0
        while child.write(piece):
            taken += len(piece)
        self.assertGreater(child.unsent, 900_000 - 100_000)
        self.assertLessEqual(child.unsent, 1_000_000)
        self.assertGreater(taken, child.unsent - 1)
        self.assertFalse(child.write(piece))
        os.kill(child.pid or 0, signal.SIGCONT)
        self.assertTrue(child.write(b"\n"))
        await ears.until(lambda: "drained" in ears.heard)
        self.assertEqual(child.unsent, 0)
        self.assertTrue(child.write(piece))
        self.assertEqual((await child.end()).code, 0)
        self.assertEqual(ears.output, b"done\n")

    async def test_all_that_was_written_is_read_before_the_end(self) -> None:
        child, ears = self.child(sh("wc -c"))
        await child.start()
        child.write(b"x" * 500_000)
        child.write(b"y" * 500_000)
        self.assertEqual((await child.end()).code, 0)
        self.assertEqual(ears.output.strip(), b"1000000")

    async def test_its_last_output_comes_before_its_end(self) -> None:
        script = "head -c 60000 /dev/zero; head -c 3000 /dev/zero | tr '\\0' e >&2; exit 7"
        child, ears = self.child(sh(script))
        await child.start()
        await ears.until(lambda: ears.exit)
        self.assertEqual((len(ears.output), ears.heard[-1]), (60000, "exit code 7"))
        assert ears.exit is not None
        self.assertEqual(ears.exit.tail, "e" * 500 + "…")

    async def test_pause(self) -> None:
        """A child that is not read from waits; when it is read from again, nothing is missing."""
        child, ears = self.child(sh("head -c 1000000 /dev/zero; echo >&2 written"))
        await child.start()
        child.pause()
        self.assertFalse(ears.words)
        before = len(ears.output)
        pulse, other = self.child(sh("echo 1"))
        await pulse.start()
        await other.until(lambda: other.exit)
        self.assertEqual(len(ears.output), before, "something was read")
        self.assertIsNone(ears.exit)
        child.resume()
        await ears.until(lambda: ears.exit)
        self.assertEqual(len(ears.output), 1_000_000)
        child.pause()
        child.resume()

    async def test_closes_its_output_but_lives(self) -> None:
        child, ears = self.child(sh("exec >&-; read x; exit 3"))
        await child.start()
        await ears.until(lambda: "closed output" in ears.heard)
        self.assertIs(child.state, State.RUNNING)
        child.write(b"\n")
        await ears.until(lambda: ears.exit)
        self.assertEqual(ears.heard[-1], "exit code 3")

    async def test_closes_its_input_but_lives(self) -> None:
        child, ears = self.child(sh("exec <&-; echo ready; exec sleep 1000"), grace=QUICK)
        await child.start()
        await ears.until(lambda: ears.output)
        child.write(b"x")
        await ears.until(lambda: "closed input" in ears.heard)
        self.assertFalse(child.write(b"y"))
        self.assertEqual(str(await child.end()), "signal SIGTERM")

    async def test_closes_its_input_before_it_is_said_to_run(self) -> None:
        """The launcher's report may come later than that; it is told all the same, and nothing is written anywhere."""
        child, ears = self.child(sh("sleep 1000"), grace=QUICK)
        started = child.start()
        pipe = child._pipes.pipe(0)
        pipe.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(ears.heard, [])
        await started
        await ears.until(lambda: ears.heard)
        self.assertEqual(ears.heard, ["closed input"])
        self.assertFalse(child.write(b"x"))

    async def test_speaks_before_it_is_said_to_run(self) -> None:
        """It is heard afterwards; unless who hears wants to wait."""
        child, ears = self.child(sh("echo early; read x"))
        started = child.start()
        child.resume()
        started.addCallback(lambda _: self.assertEqual(ears.output, b""))
        await started
        await ears.until(lambda: ears.output == b"early\n")
        child, ears = self.child(sh("echo early; read x"))
        started = child.start()
        child.pause()
        await started
        self.assertEqual(child._pipes._paused, {1})
        child.resume()
        await ears.until(lambda: ears.output == b"early\n")

    async def test_standard_error(self) -> None:
        child, ears = self.child(sh("echo one >&2; printf 'two\\033[2J' >&2; exit 1"))
        await child.start()
        end = await self.ended(child, ears)
        self.assertEqual(end.tail, "one\ntwo\\x1b[2J")
        self.assertEqual(child.tail, end.tail)
        await child.end()
        self.assertEqual(ears.words, ["one", "two\\x1b[2J"])

    async def ended(self, child: Child, ears: Ears) -> Exit:
        await ears.until(lambda: ears.exit)
        assert ears.exit is not None
        return ears.exit

    async def test_the_log(self) -> None:
        """Where nobody asks for its words, they go to the log, with its name."""
        from twisted.logger import globalLogPublisher

        lines: list[str] = []

        def observe(event: dict[str, object]) -> None:
            if event.get("child") == "kid":
                lines.append(str(event.get("line", event.get("count"))))

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        child = Child(reactor, sh("for i in $(seq 200); do echo $i; done >&2"), "kid", Ears(), grace=PATIENT)
        await child.start()
        await child.end()
        self.assertEqual(lines[:3], ["1", "2", "3"])
        self.assertEqual(lines[-1], "(no more)")
        self.assertLess(len(lines), 200)

    async def test_a_flood_is_read_slowly(self) -> None:
        """It gets as much as its budget, and waits; the rest of us does not notice."""
        limits = ChildLimits(words=50_000)
        child, ears = self.child(sh("yes flood >&2"), limits=limits, grace=QUICK)
        await child.start()
        await ears.until(lambda: len(ears.words) >= 100)
        pipes = child._pipes
        while pipes._pause is None:
            pulse, other = self.child(sh("true"))
            await pulse.start()
            await other.until(lambda: other.exit)  # noqa: B023
        self.assertLess(pipes._spent, limits.words + 10_000)
        first = pipes._pause
        while pipes._pause is first:
            pulse, other = self.child(sh("true"))
            await pulse.start()
            await other.until(lambda: other.exit)  # noqa: B023
        self.assertEqual(str(await child.end()), "signal SIGTERM")
        self.assertIn("flood", child.tail)


class EndTests(ChildCase):
    async def test_ignores_sigterm(self) -> None:
        child, ears = self.child(sh("trap '' TERM; echo ready; while :; do sleep 1000; done"), grace=QUICK)
        await child.start()
        await ears.until(lambda: ears.output)
        ends = await gatherResults([child.end(), child.end()])
        self.assertEqual([str(end) for end in ends], ["signal SIGKILL"] * 2)
        self.assertFalse(present(child.pid or 0))

    async def test_a_shorter_grace_counts(self) -> None:
        child, ears = self.child(sh("trap '' TERM; echo ready; while :; do sleep 1000; done"))
        await child.start()
        await ears.until(lambda: ears.output)
        slow = child.end()
        self.assertIs(child.state, State.CLOSING)
        quick = child.end(QUICK)
        self.assertEqual([str(end) for end in await gatherResults([slow, quick])], ["signal SIGKILL"] * 2)

    async def test_stopped(self) -> None:
        """SIGTERM reaches who is stopped, too."""
        child, ears = self.child(
            sh("trap 'exit 5' TERM; echo ready; kill -STOP $$; sleep 1000"), grace=Grace(0, 30, 5)
        )
        await child.start()
        await ears.until(lambda: ears.output)
        self.assertEqual(str(await child.end()), "exit code 5")

    async def test_grandchildren(self) -> None:
        """Those that ignore SIGTERM, and those with a session of their own; all are reaped."""
        script = (
            "(trap '' TERM; while :; do sleep 1000; done) & echo $!;"
            "setsid sh -c 'echo $$; exec sleep 1000' & read x"
        )
        child, ears = self.child(sh(script), grace=QUICK)
        await child.start()
        pids = await self.pids(ears, 2)
        self.assertTrue(all(map(running, pids)))
        self.assertEqual(str(await child.end()), "exit code 1")
        self.assertFalse(any(map(present, (*pids, child.pid or 0))))

    async def test_what_a_dead_child_leaves(self) -> None:
        """Its end is told at once, and what it started is ended, too; nobody has to ask."""
        script = "(trap '' TERM; echo ready; while :; do sleep 1000; done) & echo $!; exit 4"
        child, ears = self.child(sh(script), grace=Grace(30, 0.1, 5))
        await child.start()
        (pid,) = await self.pids(ears)
        await ears.until(lambda: ears.exit)
        self.assertEqual(ears.heard[-1], "exit code 4")
        self.assertEqual((await child.end()).code, 4)
        self.assertFalse(present(pid))

    async def test_whose_first_thread_has_ended(self) -> None:
        """It looks as if it had ended, and runs on."""
        script = (
            "import ctypes, os, signal, sys, threading, time\n"
            "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
            "pid = os.fork()\n"
            "if pid == 0:\n"
            "    os.setsid()\n"
            "    threading.Thread(target=time.sleep, args=(1000,)).start()\n"
            "    ctypes.CDLL(None).pthread_exit(None)\n"
            "while ') Z ' not in open(f'/proc/{pid}/stat').read():\n"
            "    time.sleep(0.01)\n"
            "print(pid, flush=True)\n"
        )
        child, ears = self.child(python(script), grace=QUICK)
        await child.start()
        (pid,) = await self.pids(ears)
        self.addCleanup(_kill_group, pid)
        await child.end()
        self.assertFalse(present(pid))

    async def test_the_launcher_is_killed(self) -> None:
        """Then the command is killed, and what is in its group."""
        child, ears = self.child(sh("sleep 1000 & echo $!; sleep 1000"))
        await child.start()
        (pid,) = await self.pids(ears)
        launcher = child._pipes.transport.pid
        os.kill(launcher, signal.SIGKILL)
        await ears.until(lambda: ears.exit)
        self.assertEqual(str(await child.end()), "signal SIGKILL")
        self.assertIs(child.state, State.GONE)
        wait_until(lambda: not running(pid) and not running(child.pid or 0), "all of it is killed")

    def test_a_group_that_has_ended(self) -> None:
        _kill_group(2**22 + 1)

    async def test_a_launcher_that_does_not_obey(self) -> None:
        """It is killed, after all."""
        child, ears = self.child(sh("echo $$; sleep 1000"), grace=Grace(0, 0, 0.05))
        await child.start()
        (pid,) = await self.pids(ears)
        os.kill(child._pipes.transport.pid, signal.SIGSTOP)
        await child.end()
        wait_until(lambda: not running(pid), "the command is killed")

    async def test_crash(self) -> None:
        child, ears = self.child(sh("kill -SEGV $$"))
        await child.start()
        await ears.until(lambda: ears.exit)
        self.assertEqual(ears.heard[-1], "signal SIGSEGV")

    async def test_a_terminals_signals_are_not_for_it(self) -> None:
        """The launcher ignores what a whole group or cgroup gets; the command decides for itself."""
        child, ears = self.child(Command(("cat",)))
        await child.start()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            os.kill(child._pipes.transport.pid, number)
        child.write(b"still here")
        await ears.until(lambda: ears.output == b"still here")
        self.assertEqual((await child.end()).code, 0)

    def test_descriptors_are_closed_in_a_turn_of_their_own(self) -> None:
        """Else the reactor would take events that it holds of them for those of a child that is started at once."""
        clock = Clock()
        pipes = Pipes(mock.Mock())
        pipes._reactor = clock
        pipe = mock.Mock()
        pipe.doRead.return_value = None
        pipes.transport = mock.Mock(pipes={STDOUT: pipe})
        pipes.processExited(Failure(ConnectionDone()))
        pipe.doRead.assert_called()
        pipe.connectionLost.assert_not_called()
        clock.advance(0)
        pipe.connectionLost.assert_called_once()

    async def test_many_leave_nothing(self) -> None:
        """No descriptor, no zombie."""
        first, _ = self.child(Command(("cat",)))
        await first.start()
        await first.end()
        before = descriptors()
        children = [self.child(Command(("cat",)))[0] for _ in range(20)]
        await gatherResults([child.start() for child in children])
        await gatherResults([child.end() for child in children])
        self.assertEqual(descriptors(), before)
        self.assertFalse([child.pid for child in children if present(child.pid or 0)])


class ConfinementTests(ChildCase):
    async def run_in(self, sandbox: Confinement, command: Command) -> tuple[Exit, str]:
        child, ears = self.child(Command(command.argv, command.cwd, command.env, sandbox))
        await child.start()
        await ears.until(lambda: ears.exit)
        assert ears.exit is not None
        return ears.exit, ears.output.decode()

    async def test_limits(self) -> None:
        sandbox = Confinement("rlimits", memory=512 * 2**20, files=40, cpu_seconds=100)
        numbers = "(r.RLIMIT_AS, r.RLIMIT_NOFILE, r.RLIMIT_CPU, r.RLIMIT_CORE)"
        script = f"import resource as r; print([r.getrlimit(n) for n in {numbers}])"
        _, output = await self.run_in(sandbox, python(script))
        memory = 512 * 2**20
        self.assertEqual(output.strip(), str([(memory, memory), (40, 40), (100, 101), (0, 0)]))

    async def test_memory(self) -> None:
        end, _ = await self.run_in(Confinement("rlimits", memory=256 * 2**20), python("b'x' * 2**30"))
        self.assertEqual((end.code, end.tail.rpartition("\n")[2]), (1, "MemoryError"))

    async def test_cpu(self) -> None:
        end, _ = await self.run_in(Confinement("rlimits", cpu_seconds=1), python("while True: pass"))
        self.assertEqual(str(end), "signal SIGXCPU")

    async def test_a_limit_is_never_raised(self) -> None:
        """Not above what this process may have itself."""
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        _, output = await self.run_in(Confinement("rlimits", files=hard * 2), sh("ulimit -H -n"))
        self.assertEqual(output.strip(), str(hard))

    def bwrap(self, **options: object) -> Confinement:
        need_bwrap()
        sandbox = Confinement("bwrap", **options)  # type: ignore[arg-type]
        sandbox.check()
        return sandbox

    async def test_a_file_system_of_its_own(self) -> None:
        given = self.folder()
        (given / "here").write_text("")
        script = (
            f"touch {given}/new; touch /etc/new; touch /tmp/mine && ls -A /tmp /run; ls -A {given.parent}"
        )
        sandbox = self.bwrap(hidden=(str(given.parent),), writable=(str(given),))
        end, output = await self.run_in(sandbox, sh(script))
        self.assertIn("Read-only file system", end.tail)
        # The folder itself may lie in /tmp.
        top = [] if given.parts[1] != "tmp" else [given.parts[2]]
        run, _, tmp = output.partition("/tmp:")
        self.assertEqual((run.split(), sorted(tmp.split())), (["/run:"], sorted(["mine", *top, given.name])))
        self.assertEqual(sorted(path.name for path in given.iterdir()), ["here", "new"])
        self.assertNotIn("new", names("/etc"))
        self.assertNotIn("mine", names("/tmp"))
        readable = self.bwrap(hidden=(str(given.parent),), readable=(str(given),))
        end, output = await self.run_in(readable, sh(f"cat {given}/here && touch {given}/newer"))
        self.assertIn("Read-only file system", end.tail)

    async def test_network(self) -> None:
        command = sh("tail -n +3 /proc/net/dev | cut -d: -f1")
        _, without = await self.run_in(self.bwrap(), command)
        _, granted = await self.run_in(self.bwrap(network=True), command)
        self.assertEqual(without.split(), ["lo"])
        self.assertEqual(set(granted.split()), {name for _, name in socket.if_nameindex()})

    async def test_processes_are_its_own(self) -> None:
        _, output = await self.run_in(self.bwrap(), sh("ls /proc | grep -c '^[0-9]'"))
        self.assertLess(int(output), 6)

    async def test_no_capabilities(self) -> None:
        _, output = await self.run_in(self.bwrap(), sh("grep CapEff /proc/self/status"))
        self.assertEqual(int(output.split()[1], 16), 0)

    async def test_limits_hold_in_it_too(self) -> None:
        _, output = await self.run_in(self.bwrap(files=33), sh("ulimit -n"))
        self.assertEqual(output.strip(), "33")

    async def test_a_crash_in_it(self) -> None:
        end, _ = await self.run_in(self.bwrap(), sh("kill -SEGV $$"))
        self.assertEqual(str(end), "signal SIGSEGV")

    async def test_it_may_end_in_good_order(self) -> None:
        """SIGTERM is for the command, not for the program around it: that would kill the command."""
        command = sh("trap 'exit 6' TERM; echo ready; while :; do sleep 0.05; done", sandbox=self.bwrap())
        child, ears = self.child(command, grace=Grace(0, 30, 5))
        await child.start()
        await ears.until(lambda: ears.output)
        self.assertEqual(str(await child.end()), "exit code 6")

    async def test_it_is_killed_with_all_that_is_in_it(self) -> None:
        command = sh(
            "trap '' TERM; setsid sleep 1000 & echo ready; while :; do sleep 1; done", sandbox=self.bwrap()
        )
        child, ears = self.child(command, grace=QUICK)
        await child.start()
        await ears.until(lambda: ears.output)
        self.assertEqual(str(await child.end()), "signal SIGKILL")
        self.assertFalse(present(child.pid or 0))
