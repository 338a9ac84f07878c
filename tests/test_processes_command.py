"""What is to be run, how it is confined, and how its end reads; no process but the sandbox's own trial."""

import os
import resource
import shutil
import signal
import stat
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from erlmcp.processes import Command, Confinement, Exit, inherited_environment
from tests.skips import need


class CommandTests(SynchronousTestCase):
    def test_wrong_ones(self) -> None:
        wrong: list[tuple[str, tuple[str, ...], dict[str, Any]]] = [
            ("must begin with a program", (), {}),
            ("must begin with a program", ("", "x"), {}),
            ("argument 'a\\\\x00b' holds a NUL", ("sh", "a\0b"), {}),
            ("variable '\\\\x00' holds a NUL", ("sh",), {"env": {"A": "\0"}}),
            ("'A=B' cannot name a variable", ("sh",), {"env": {"A=B": "c"}}),
            ("'' cannot name a variable", ("sh",), {"env": {"": "c"}}),
            ("cwd is ''; it must be the path", ("sh",), {"cwd": ""}),
        ]
        for said, argv, options in wrong:
            with self.assertRaisesRegex(ValueError, said):
                Command(argv, **options)

    def test_environment(self) -> None:
        """What programs need to start comes from ours, secrets do not, and what is given wins."""
        for name, value in {"HOME": "/h", "TERM": "() { x; }", "SECRET_TOKEN": "s", "USER": "u"}.items():
            self.addCleanup(
                os.environ.__setitem__, name, os.environ[name]
            ) if name in os.environ else self.addCleanup(os.environ.pop, name)
            os.environ[name] = value
        inherited = inherited_environment()
        self.assertEqual((inherited["HOME"], inherited["USER"]), ("/h", "u"))
        self.assertNotIn("TERM", inherited, "a shell function")
        self.assertNotIn("SECRET_TOKEN", inherited)
        command = Command(("sh",), env={"HOME": "/other", "SECRET_TOKEN": "t"})
        self.assertEqual(command.environment(), {**inherited, "HOME": "/other", "SECRET_TOKEN": "t"})

    def test_order(self) -> None:
        """What the launcher reads; arguments are bytes to the system, so odd ones survive."""
        from erlmcp.processes.launcher import Order

        command = Command(
            ["a", "", "=\n\udcff"],  # type: ignore[arg-type] - a list is taken, too
            cwd="/x=y",
            env={"PATH": "/bin", "V": "a=b"},
            sandbox=Confinement("rlimits", files=20),
        )
        read, write = os.pipe()
        self.addCleanup(os.close, read)
        os.write(write, command.order(7, 1.5) + b"K")
        os.close(write)
        import erlmcp.processes.launcher as launcher

        self.patch(launcher, "ORDERS", read)
        order = Order.read()
        self.assertEqual(order.arguments, [b"a", b"", b"=\n\xff"])
        self.assertEqual((order.cwd, order.parent, order.orphan_grace), (b"/x=y", 7, 1.5))
        self.assertEqual((order.variables[b"PATH"], order.variables[b"V"]), (b"/bin", b"a=b"))
        self.assertEqual(order.limits, [(resource.RLIMIT_CORE, 0), (resource.RLIMIT_NOFILE, 20)])
        self.assertEqual((order.wrapper, order.more), (b"", b"K"))
        with self.assertRaises(EOFError):
            Order.read()
        with self.assertRaisesRegex(ValueError, "nonsense"):
            Order().take(b"nonsense", b"")


class ConfinementTests(SynchronousTestCase):
    def test_what_nothing_would_enforce(self) -> None:
        wrong: list[tuple[str, dict[str, Any]]] = [
            ("sandbox is 'jail'; it must be one of none, rlimits, bwrap, systemd-run", {"kind": "jail"}),
            ("memory is 1000000000, but nothing enforces it with sandbox none", {"memory": 10**9}),
            ("memory is 5; it must be at least 16777216", {"kind": "rlimits", "memory": 5}),
            ("files is 1; it must be at least 16", {"kind": "rlimits", "files": 1}),
            ("cpu_seconds is 0; it must be at least 1", {"kind": "bwrap", "cpu_seconds": 0}),
            ("network means something with sandbox bwrap alone", {"kind": "rlimits", "network": True}),
            ("writable means something with sandbox bwrap alone", {"writable": ("/x",)}),
            ("hidden holds 'x'; it must be an absolute path", {"kind": "bwrap", "hidden": ("x",)}),
        ]
        for said, options in wrong:
            with self.assertRaisesRegex(ValueError, said):
                Confinement(**options)

    def test_limits(self) -> None:
        self.assertEqual(Confinement().resource_limits(), [])
        all_of_them = {"memory": 10**9, "files": 64, "cpu_seconds": 3}
        core = (resource.RLIMIT_CORE, 0)
        memory = (resource.RLIMIT_AS, 10**9)
        others = [(resource.RLIMIT_NOFILE, 64), (resource.RLIMIT_CPU, 3)]
        self.assertEqual(Confinement("rlimits", **all_of_them).resource_limits(), [core, memory, *others])
        self.assertEqual(Confinement("bwrap", **all_of_them).resource_limits(), [core, memory, *others])
        self.assertEqual(Confinement("systemd-run", **all_of_them).resource_limits(), [core, *others])

    def test_none_and_rlimits_need_nothing(self) -> None:
        self.patch(os, "environ", {"PATH": "/nonexistent"})
        Confinement().check()
        Confinement("rlimits", files=64).check()

    def test_missing_programs(self) -> None:
        self.patch(os, "environ", {"PATH": "/nonexistent"})
        with self.assertRaisesRegex(
            ValueError, "needs the program bwrap, which is not in PATH: install bubblewrap"
        ):
            Confinement("bwrap").check()
        with self.assertRaisesRegex(
            ValueError, "needs the program systemd-run, .*a system that runs systemd"
        ):
            Confinement("systemd-run").check()

    def program(self, name: str, body: str) -> Path:
        """A program of our own, the only one in PATH beside the system's."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        path = folder / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        self.patch(os, "environ", {**os.environ, "PATH": f"{folder}:/usr/bin:/bin"})
        return path

    def test_what_does_not_work_here(self) -> None:
        self.program("bwrap", "echo no user namespaces >&2; exit 1")
        with self.assertRaisesRegex(
            ValueError, r"bwrap does not work here \(no user namespaces\): make it work"
        ):
            Confinement("bwrap").check()
        self.program("systemd-run", "exit 5")
        with self.assertRaisesRegex(ValueError, r"systemd-run does not work here \(exit code 5\)"):
            Confinement("systemd-run").check()

    def test_what_hangs(self) -> None:
        import erlmcp.processes._confinement as module

        self.patch(module, "PROBE_PATIENCE", 0.05)
        self.program("bwrap", "exec sleep 60")
        with self.assertRaisesRegex(ValueError, r"no answer within 0.05 s"):
            Confinement("bwrap").check()

    def test_systemd_run(self) -> None:
        """As root for the system's manager, else for the user's; the bound is the whole tree's."""
        path = self.program("systemd-run", 'while [ "$1" != -- ]; do shift; done; shift; exec "$@"')
        sandbox = Confinement("systemd-run", memory=10**9)
        sandbox.check()
        for uid, user in ((0, []), (1000, ["--user"])):
            self.patch(os, "geteuid", lambda uid=uid: uid)
            self.assertEqual(
                sandbox.wrap(("a", "b"), "/x"),
                (
                    *(str(path), "--scope", "--quiet", "--collect", *user),
                    *("-p", "MemoryMax=1000000000", "-p", "MemorySwapMax=0", "--", "a", "b"),
                ),
            )

    def test_bwrap_options(self) -> None:
        sandbox = Confinement("bwrap", writable=("/var/tmp",), readable=("/tmp",), hidden=("/root",))
        words = " ".join(sandbox.wrap(("a",), "/var"))
        for part in (
            "--ro-bind / / ",
            "--tmpfs /tmp --tmpfs /run --tmpfs /root --ro-bind /tmp /tmp --bind /var/tmp /var/tmp",
            "--unshare-net",
            "--chdir /var -- a",
        ):
            self.assertIn(part, words)
        self.assertNotIn("--unshare-net", Confinement("bwrap", network=True).wrap(("a",), None))

    def test_names_are_still_known_with_a_network(self) -> None:
        """Where /etc/resolv.conf points into /run."""
        import erlmcp.processes._confinement as module

        self.patch(module, "Path", lambda _: Path("/"))
        words = " ".join(Confinement("bwrap", network=True).wrap(("a",), None))
        self.assertIn("--ro-bind /run/systemd/resolve /run/systemd/resolve", words)

    def test_bwrap_for_real(self) -> None:
        need(shutil.which("bwrap"), "bwrap is not installed")
        Confinement("bwrap", writable=("/var/tmp",)).check()
        with self.assertRaisesRegex(ValueError, "names /no/such, which does not exist"):
            Confinement("bwrap", readable=("/no/such",)).check()


class ExitTests(SynchronousTestCase):
    def test_words(self) -> None:
        self.assertEqual(str(Exit.from_status(3)), "exit code 3")
        self.assertEqual(str(Exit.from_status(-signal.SIGSEGV)), "signal SIGSEGV")
        self.assertEqual(str(Exit.from_status(-signal.SIGRTMIN - 3)), f"signal {signal.SIGRTMIN + 3}")
        self.assertEqual(str(Exit(None)), "an unknown end")
        self.assertEqual(Exit.from_status(1, "boo").describe(), "exit code 1; its last words:\nboo")
        self.assertEqual(Exit.from_status(1).describe(), "exit code 1")

    def test_what_a_wrapper_says(self) -> None:
        self.assertEqual(str(Exit.from_status(128 + 9, wrapped=True)), "signal SIGKILL")
        self.assertEqual(str(Exit.from_status(128 + 9)), "exit code 137")
        self.assertEqual(str(Exit.from_status(255, wrapped=True)), "exit code 255")

    def test_clean(self) -> None:
        self.assertTrue(Exit.from_status(0).clean)
        self.assertFalse(Exit.from_status(1).clean)
        self.assertFalse(Exit.from_status(-15).clean)
