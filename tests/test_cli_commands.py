"""The ``erlmcp`` command."""

import argparse
import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from unittest import TestCase, mock

from twisted.trial.unittest import SynchronousTestCase

import erlmcp
from erlmcp import config, transports
from erlmcp.cli import _stdio, main
from tests.daemon import ERLMCP, PATIENCE, ROOT, environment
from tests.test_tap_process import META


class CommandTestCase(SynchronousTestCase):
    def run_main(self, *arguments: str) -> tuple[int, str, str]:
        """Status, standard output, standard error."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                status = main(arguments)
            except SystemExit as ended:
                status = int(ended.code or 0)
        return status, out.getvalue(), err.getvalue()

    def file(self, text: str) -> str:
        path = Path(self.mktemp())
        path.write_text(text)
        return str(path)


class UsageTests(CommandTestCase):
    def test_version(self) -> None:
        self.assertEqual(self.run_main("--version"), (0, f"erlmcp {erlmcp.__version__}\n", ""))

    def test_help(self) -> None:
        status, out, _ = self.run_main("--help")
        self.assertEqual(status, 0)
        for word in ("stdio", "check", "plugins", "key", "twistd -n erlmcp"):
            self.assertIn(word, out)

    def test_nothing_said(self) -> None:
        status, _, err = self.run_main()
        self.assertEqual(status, 2)
        self.assertIn("COMMAND", err)

    def test_imports_are_lazy(self) -> None:
        """Asking for the version loads nothing that takes time."""
        script = (
            "import sys; from erlmcp.cli import main\ntry: main(['--version'])\nexcept SystemExit: pass\n"
        )
        script += "print([name for name in ('twisted', 'zope', 'msgspec', 'ssl') if name in sys.modules])"
        done = subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            env=environment(),
            timeout=PATIENCE,
        )
        self.assertEqual(done.stdout.splitlines()[-1], "[]", done.stderr)

    def test_as_a_module(self) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "erlmcp.cli", "--version"],
            capture_output=True,
            text=True,
            env=environment(),
            timeout=PATIENCE,
        )
        self.assertEqual((done.returncode, done.stdout), (0, f"erlmcp {erlmcp.__version__}\n"))


class CheckTests(CommandTestCase):
    def test_sample(self) -> None:
        sample = str(ROOT / "etc" / "erlmcp.toml")
        self.assertEqual(self.run_main("check", sample), (0, f"{sample}: nothing wrong\n", ""))

    def test_mistakes_in_the_file(self) -> None:
        file = self.file("[server]\nnmae = 1\n[[listen]]\ntransport = 'htp'\n")
        status, out, err = self.run_main("check", file)
        self.assertEqual((status, out), (1, ""))
        lines = err.splitlines()
        self.assertEqual(len(lines), 4)
        self.assertIn("has no [[provider]]", lines[0])
        self.assertTrue(lines[1].startswith(f"{file}:2: server.nmae: unknown key; did you mean name?"))
        self.assertTrue(lines[2].startswith(f"{file}:4: listen[1].transport: no transport plugin"))
        self.assertEqual(lines[3], f"{file}: 3 problems")

    def test_mistakes_behind_it(self) -> None:
        """What only shows when the parts are put together, of all kinds at once."""
        file = self.file(
            "[server]\nkeys = { env = 'NO_SUCH_VARIABLE' }\n[[provider]]\nuse = 'no_such_module:x'\n"
            "[[listen]]\ntransport = 'tcp'\nendpoint = 'tcp:0'\n"
        )
        status, _, err = self.run_main("check", file)
        self.assertEqual(status, 1)
        for place in (":2: server.keys: ", ":4: provider[1].use: ", ":7: listen[1].endpoint: tcp:0 is open"):
            self.assertIn(f"{file}{place}", err)
        self.assertTrue(err.endswith("3 problems\n"))

    def test_one_problem(self) -> None:
        status, _, err = self.run_main("check", "/no/such/file.toml")
        self.assertEqual(status, 1)
        self.assertEqual(
            err,
            "/no/such/file.toml: cannot be read: No such file or directory\n/no/such/file.toml: 1 problem\n",
        )

    def test_the_wrong_reactor(self) -> None:
        file = self.file("[[provider]]\nuse = 'tests.test_tap_assembly:needy'\n")
        status, _, err = self.run_main("check", file)
        self.assertEqual(status, 1)
        self.assertIn("the provider 'needy' needs asyncio", err)

    def test_nothing_is_made(self) -> None:
        state = Path(self.mktemp())
        file = self.file(
            f"[server]\nstate = '{state}'\n[[provider]]\nuse = 'erlmcp.examples.demo:provider'\n"
        )
        status, out, _ = self.run_main("check", file)
        self.assertEqual(status, 0)
        self.assertIn("has no [[listen]], so it serves `erlmcp stdio` alone", out)
        self.assertFalse(state.exists())

    def test_sockets_that_systemd_passes(self) -> None:
        file = self.file(
            "[[provider]]\nuse = 'erlmcp.examples.demo:provider'\n"
            "[[listen]]\ntransport = 'http'\nendpoint = 'systemd:domain=INET:index=0'\n"
        )
        with mock.patch.dict(os.environ):
            os.environ.pop("LISTEN_FDS", None)
            status, out, _ = self.run_main("check", file)
        self.assertEqual(status, 0)
        self.assertIn("listen[1].endpoint: systemd:domain=INET:index=0 cannot be checked here", out)


class OtherTests(CommandTestCase):
    def test_key(self) -> None:
        status, out, _ = self.run_main("key", "new")
        self.assertEqual(status, 0)
        self.assertEqual(len(config.parse_keys(out.encode())), 1)

    def test_plugins(self) -> None:
        status, out, _ = self.run_main("plugins")
        self.assertEqual(status, 0)
        self.assertIn("transports:\n", out)
        self.assertIn("  http   twisted.plugins.erlmcp_transports\n", out)

    def test_no_plugins(self) -> None:
        self.patch(config, "declared", lambda _: [])
        self.assertEqual(self.run_main("plugins")[1], "transports:\n  none\nproviders:\n  none\n")


class StdioFailureTests(CommandTestCase):
    def test_closed_streams(self) -> None:
        def closed() -> None:
            raise OSError(9, "Bad file descriptor")

        self.patch(transports, "claim_standard_streams", closed)
        status, out, err = self.run_main("stdio")
        self.assertEqual(
            (status, out, err),
            (1, "", "erlmcp stdio: standard input or output is closed: Bad file descriptor\n"),
        )

    def test_configuration(self) -> None:
        err = io.StringIO()
        options = argparse.Namespace(
            config=None,
            provider=["no_such_module:x"],
            options=None,
            view=None,
            log_level="warn",
            isolated=False,
        )
        with contextlib.redirect_stderr(err), mock.patch("erlmcp.telemetry.log_to"):
            self.assertEqual(_stdio.serve(options), 1)
        self.assertIn(
            "erlmcp stdio: --provider no_such_module:x: provider[1].use: there is no module", err.getvalue()
        )


class StdioTests(TestCase):
    """``erlmcp stdio`` as a process."""

    def start(self, *options: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [*ERLMCP, "stdio", *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(),
        )
        self.addCleanup(process.wait, PATIENCE)
        self.addCleanup(process.kill)
        return process

    def test_call_and_end(self) -> None:
        """When standard input ends it has answered, and exits with 0; the file's listeners are not bound."""
        file = Path(self.enterContext(tempfile.TemporaryDirectory())) / "erlmcp.toml"
        file.write_text(
            '[server]\nname = "over stdio"\n[[provider]]\nuse = "erlmcp.examples.demo:provider"\n'
            '[[listen]]\ntransport = "tcp"\nendpoint = "tcp:1:interface=192.0.2.1"\nauth = "none"\n'
            '[telemetry]\nendpoint = "tcp:1:interface=192.0.2.1"\nauth = "none"\n'
        )
        params = {"name": "echo", "arguments": {"message": "hi"}, "_meta": META}
        call = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params}
        process = self.start("--config", str(file), "--log-level", "info")
        out, err = process.communicate(json.dumps(call).encode() + b"\n", PATIENCE)
        self.assertEqual(process.returncode, 0, err)
        (line,) = out.splitlines()
        answer = json.loads(line)
        self.assertEqual((answer["id"], answer["result"]["content"][0]["text"]), (7, "hi"))
        self.assertIn("over stdio", json.dumps(answer))
        self.assertIn(b"ready", err)

    def test_the_end_of_input_ends_subscriptions(self) -> None:
        """They would last as long as the process: a host that waits for its end must not wait for the deadline."""
        params = {"notifications": {"toolsListChanged": True}, "_meta": META}
        listen = {"jsonrpc": "2.0", "id": 7, "method": "subscriptions/listen", "params": params}
        out, err = self.start().communicate(json.dumps(listen).encode() + b'\n{"jsonrpc": "2.0"', PATIENCE)
        messages = [json.loads(line) for line in out.splitlines()]
        self.assertEqual(
            [one.get("method", "result") for one in messages][1:], ["notifications/cancelled", "result"]
        )
        self.assertEqual(messages[-1]["id"], 7)
        self.assertIn(b"the last line has no newline and is not executed", err)

    def test_signal(self) -> None:
        process = self.start("--log-level", "info")
        assert process.stderr is not None
        while b"ready" not in process.stderr.readline():
            self.assertIsNone(process.poll())
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(PATIENCE), 0)
        for stream in (process.stdin, process.stdout, process.stderr):
            assert stream is not None
            stream.close()
