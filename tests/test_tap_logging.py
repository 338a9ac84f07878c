"""Who writes the log under which program, and who looks on while requests are served."""

import io
import json
import signal
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from unittest import TestCase, mock

from twisted.logger import Logger, LogLevel, LogPublisher
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.config import ConfigurationError, Settings, TelemetrySettings
from erlmcp.tap import Options, StartFailed
from erlmcp.tap import _logging as logging
from erlmcp.tap._observation import make_tracing, observed
from erlmcp.telemetry import AccessLog, Counters, Output, RequestFailure, log_from
from erlmcp.telemetry import Logger as OurLogger
from tests.daemon import PATIENCE, Daemon, free_port
from tests.skips import need
from tests.test_tap_process import post


class Twistd(dict[str, Any]):
    """twistd's own options."""

    def __init__(self, **given: Any) -> None:
        super().__init__(
            {"logger": None, "syslog": 0, "nodaemon": 1, "logfile": None, "chroot": None, **given}
        )


class ArrangeTests(SynchronousTestCase):
    """`arrange` and what twistd then calls."""

    def setUp(self) -> None:
        self.patch(logging, "_arranged", None)
        self.stdout = io.StringIO()
        self.patch(sys, "stdout", self.stdout)

    def say(self, output: Output) -> None:
        Logger(namespace="erlmcp.test", observer=LogPublisher(output)).info("said")

    def test_in_the_foreground(self) -> None:
        for given in ({}, {"logfile": "-"}):
            options = Twistd(**given)
            logging.arrange(options, TelemetrySettings(log="json"))
            self.assertEqual(options["logger"], "erlmcp.tap._logging.twistd_observer")
            self.say(logging.twistd_observer())
        self.assertEqual(
            [json.loads(line)["message"] for line in self.stdout.getvalue().splitlines()], ["said"] * 2
        )

    def test_in_the_background(self) -> None:
        file = Path(self.mktemp())
        handler = signal.getsignal(signal.SIGUSR1)
        self.addCleanup(signal.signal, signal.SIGUSR1, handler)
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)
        logging.arrange(Twistd(nodaemon=0, logfile=str(file)), TelemetrySettings(log="journal"))
        self.say(logging.twistd_observer())
        self.assertEqual(file.read_text(), "<6>[erlmcp.test] said\n")
        rotating = signal.getsignal(signal.SIGUSR1)
        self.assertTrue(callable(rotating))
        # Somebody else's meaning of the signal is left alone.
        logging.twistd_observer()
        self.assertIs(signal.getsignal(signal.SIGUSR1), rotating)

    def test_nowhere(self) -> None:
        logging.arrange(Twistd(nodaemon=0, logfile="-"), TelemetrySettings())
        error = self.assertRaises(SystemExit, logging.twistd_observer)
        self.assertIn("name a file", str(error))

    def test_left_alone(self) -> None:
        for given in ({"logger": "mine"}, {"syslog": 1}):
            options = Twistd(**given)
            logging.arrange(options, TelemetrySettings(log="json"))
            self.assertEqual(options, Twistd(**given))
        logging.arrange(None, TelemetrySettings())
        self.say(logging.twistd_observer())
        self.assertIn("[erlmcp.test#info] said", self.stdout.getvalue())

    def test_twist(self) -> None:
        """Its own choice of a form is the default of ours."""
        for form, given, brace in ((None, "json", True), (None, "text", False), ("text", "json", False)):
            options: dict[str, Any] = {"fileLogObserverFactory": None, "logFormat": given}
            logging.arrange(options, TelemetrySettings(log=form))
            stream = io.StringIO()
            self.say(options["fileLogObserverFactory"](stream))
            self.assertEqual(stream.getvalue().startswith("{"), brace)

    def test_configure(self) -> None:
        self.addCleanup(log_from, "info")
        self.patch(RequestFailure, "shows_arguments", False)
        logging.configure(TelemetrySettings(log_level="error", log_arguments=True))
        self.assertIs(OurLogger.level, LogLevel.error)
        self.assertTrue(RequestFailure.shows_arguments)

    def test_tac(self) -> None:
        options = Options()
        options.parseOptions([])
        stream = io.StringIO()
        self.say(options.log_observer(stream))
        self.say(options.log_observer())
        self.assertIn("said", stream.getvalue())
        self.assertIn("said", self.stdout.getvalue())

    def test_chroot(self) -> None:
        options = Options()
        options.parent = Twistd(chroot="/srv")
        error = self.assertRaises(StartFailed, options.parseOptions, [])
        self.assertIn("twistd --chroot", str(error))


class ObservationTests(SynchronousTestCase):
    """`observed`, `make_tracing`."""

    def settings(self, **telemetry: Any) -> Settings:
        return Settings(telemetry=TelemetrySettings(**telemetry))

    def problems(self, **telemetry: Any) -> str:
        problems: list[Any] = []
        made = make_tracing(self.settings(**telemetry), None, problems)
        if not problems:
            raise AssertionError(f"nothing was wrong: {made}")
        return str(ConfigurationError(problems))

    def test_access_log(self) -> None:
        counters = Counters()
        self.assertIs(observed(self.settings(), counters), counters)
        self.assertIsInstance(observed(self.settings(access_log=0.5), counters), AccessLog)

    def test_no_tracing(self) -> None:
        self.assertIsNone(make_tracing(self.settings(), None, []))

    def test_half_configured(self) -> None:
        self.assertIn('say traces = "otlp"', self.problems(traces_endpoint="http://127.0.0.1:1"))
        self.assertIn("it is a URL", self.problems(traces="otlp", traces_endpoint="localhost:4317"))

    def test_not_installed(self) -> None:
        import erlmcp.telemetry

        if hasattr(erlmcp.telemetry, "tracing"):  # as another test has left it
            self.addCleanup(setattr, erlmcp.telemetry, "tracing", erlmcp.telemetry.tracing)
            del erlmcp.telemetry.tracing
        with mock.patch.dict(sys.modules, {"erlmcp.telemetry.tracing": None}):
            self.assertIn("pip install 'erlmcp[otel]'", self.problems(traces="otlp"))


class Collector(BaseHTTPRequestHandler):
    """Takes what an OpenTelemetry exporter posts."""

    bodies: ClassVar[list[tuple[str, bytes]]] = []

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        self.bodies.append((self.path, self.rfile.read(length)))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """Say nothing."""


class CollectorTests(TestCase):
    """A daemon, and the collector that it sends spans to."""

    def test_spans_arrive(self) -> None:
        try:
            import opentelemetry.exporter.otlp.proto.http as otlp
        except ImportError:
            otlp = None
        need(otlp, "the OTLP exporter is not installed (pip install '.[otel]')")
        server = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        self.addCleanup(thread.join, PATIENCE)
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        port = free_port()
        config = Path(self.enterContext(tempfile.TemporaryDirectory())) / "erlmcp.toml"
        config.write_text(
            '[[provider]]\nuse = "erlmcp.examples.demo:provider"\n'
            f'[[listen]]\ntransport = "http"\nendpoint = "tcp:{port}:interface=127.0.0.1"\n'
            '[telemetry]\ntraces = "otlp"\n'
            f'traces_endpoint = "http://127.0.0.1:{server.server_port}/v1/traces"\n'
        )
        with Daemon(["--config", str(config)], [port]) as daemon:
            post(daemon.url, "tools/call", name="echo", arguments={"message": "hunter2!"})
            self.assertEqual(daemon.stop(), 0, daemon.output())
        # All of them were sent before it ended.
        sent = b"".join(body for path, body in Collector.bodies if path == "/v1/traces")
        self.assertIn(b"tools/call echo", sent)
        self.assertIn(b"mcp.method.name", sent)
        self.assertNotIn(b"hunter2!", sent)
