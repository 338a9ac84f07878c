"""Endpoint descriptions: a daemon's defaults, and what is said of those that cannot be."""

import errno
import shutil
import socket
import tempfile
from pathlib import Path
from typing import Any, cast

from OpenSSL import SSL
from twisted.internet import reactor
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactor
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase, TestCase

from erlmcp.transports import BindError, EndpointError, bind, unlisten
from erlmcp.transports._binding import _explain, _reason, parse, split, with_defaults
from tests.certificates import write_certificate


class Port:
    """A port whose end is as it is told."""

    def __init__(self, end: BaseException | None) -> None:
        self.end = end

    def stopListening(self) -> None:  # noqa: N802
        if self.end is not None:
            raise self.end


class Stopping(SynchronousTestCase):
    def test_a_socket_that_may_not_be_removed_is_left(self) -> None:
        """Root has bound it, and the daemon is somebody else by now (--uid)."""
        with capturedLogs() as logs:
            self.successResultOf(
                unlisten(cast("Any", Port(PermissionError(13, "Permission denied", "/run/x"))))
            )
        self.assertIn("Permission denied", str(logs[0]["why"]))

    def test_what_else_goes_wrong_is_told(self) -> None:
        self.successResultOf(unlisten(None))
        self.successResultOf(unlisten(cast("Any", Port(None))))
        self.failureResultOf(unlisten(cast("Any", Port(ValueError("oops")))), ValueError)


class Descriptions(SynchronousTestCase):
    def test_parts(self) -> None:
        self.assertEqual(split("tcp:80"), [(None, "tcp"), (None, "80")])
        self.assertEqual(
            split(r"unix:/a\:b\=c:mode=6\:0"), [(None, "unix"), (None, "/a:b=c"), ("mode", "6:0")]
        )
        self.assertEqual(split(""), [(None, "")])
        self.assertEqual(split("tcp:80:"), [(None, "tcp"), (None, "80"), (None, "")])
        with self.assertRaises(ValueError):
            split("tcp:80\\")

    def test_unix_sockets_are_the_owners_alone(self) -> None:
        self.assertEqual(with_defaults("unix:/run/x"), "unix:/run/x:mode=600:backlog=1024")
        self.assertEqual(with_defaults("unix:address=/run/x"), "unix:address=/run/x:mode=600:backlog=1024")

    def test_what_is_said_stays(self) -> None:
        for description in (
            "unix:/run/x:mode=660:backlog=5",
            "unix:/run/x:660:5",
            "tcp:80:backlog=5",
            "tcp:80:127.0.0.1:5",
            "systemd:domain=INET:index=0",
            "other:80",
        ):
            self.assertEqual(with_defaults(description), description)

    def test_the_longer_backlog(self) -> None:
        for description in (
            r"tcp:80:interface=\:\:1",
            "tcp6:80",
            "ssl:443:privateKey=k",
            "tls:/d:443",
            "haproxy:tcp:80",
        ):
            self.assertEqual(with_defaults(description), f"{description}:backlog=1024")

    def test_defaults_reach_the_reactor(self) -> None:
        memory = MemoryReactor()
        for description in ("tcp:80:interface=127.0.0.1", "unix:/run/x", "haproxy:unix:/run/y"):
            self.successResultOf(bind(memory, description, Factory()))
        self.assertEqual(memory.tcpServers[0][2:], (1024, "127.0.0.1"))
        self.assertEqual([server[3] for server in memory.unixServers], [0o600, 0o600])


class Wrong(SynchronousTestCase):
    def reason(self, description: str) -> str:
        error = self.failureResultOf(bind(MemoryReactor(), description, Factory()), EndpointError).value
        self.assertIn(repr(description), str(error))
        self.assertEqual(error.endpoint, description)
        with self.assertRaises(ValueError):
            parse(MemoryReactor(), description)
        return str(error.reason)

    def test_unknown_types(self) -> None:
        self.assertIn("'tpc'; did you mean 'tcp'? Known are tcp, tcp6, tls", self.reason("tpc:80"))
        self.assertIn("'quic'; known are tcp", self.reason("quic:80"))
        self.assertIn("unknown endpoint type ''", self.reason(""))

    def test_wrong_parameters_are_shown_the_right_form(self) -> None:
        form = "such an endpoint looks like tcp:PORT:interface=ADDRESS"
        self.assertEqual(self.reason("tcp"), f"missing 1 required positional parameter: 'port'; {form}")
        self.assertIn("unexpected keyword parameter 'interfac'", self.reason("tcp:80:interfac=127.0.0.1"))
        self.assertIn(f"'eighty'; {form}", self.reason("tcp:eighty"))
        self.assertIn(form, self.reason("haproxy:tcp:x"))
        self.assertIn("in the middle of an escape", self.reason("tcp:80\\"))

    def test_colons_within_a_value(self) -> None:
        self.assertIn(r"a colon within a value is written \:", self.reason("tcp:80:interface=::1"))

    def test_standard_input_is_no_endpoint(self) -> None:
        self.assertIn("transport = 'stdio'", self.reason("stdio:"))

    def test_sockets_that_systemd_did_not_pass(self) -> None:
        for description in ("systemd:domain=INET:index=7", "systemd:domain=INET:name=nobody"):
            self.assertIn("systemd passed no such socket", self.reason(description))

    def test_missing_and_unusable_keys(self) -> None:
        missing = str(Path(self.mktemp()).absolute())
        self.assertIn(f"No such file or directory '{missing}'", self.reason(f"ssl:443:privateKey={missing}"))
        empty = Path(self.mktemp())
        empty.write_text("no key")
        self.assertIn("the key or certificate cannot be used", self.reason(f"ssl:443:privateKey={empty}"))

    def test_tls_directories(self) -> None:
        folder = Path(self.mktemp())
        self.assertIn("it names no directory", self.reason("tls"))
        self.assertIn(f"there is no file or directory '{folder}'", self.reason(f"tls:{folder}:443"))
        folder.mkdir()
        self.assertIn("has no file whose name ends with .pem", self.reason(f"tls:{folder}:443"))
        (folder / "a.pem").write_text("nothing")
        self.assertIn("the key or certificate cannot be used", self.reason(f"tls:path={folder}:port=443"))

    def test_a_certificate_without_its_key(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        write_certificate(folder / "a.pem", key=False)
        self.assertIn("no certificate assigned", self.reason(f"tls:{folder}:443"))

    def test_third_party_endpoints_speak_for_themselves(self) -> None:
        self.assertEqual(_explain("other", ValueError("no such moon")), "no such moon")
        self.assertEqual(_explain("other", ValueError()), "ValueError")


class Right(SynchronousTestCase):
    def test_a_certificate_with_its_key(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        write_certificate(folder / "a.pem")
        for description in (f"tls:{folder}:443", f"tls:{folder / 'a.pem'}:443"):
            parse(MemoryReactor(), description)


class Reasons(SynchronousTestCase):
    def test_systems_words(self) -> None:
        taken = OSError(errno.EADDRINUSE, "Address already in use")
        self.assertEqual(
            _reason(CannotListenError("", 80, taken)),
            "Address already in use (something else listens there)",
        )
        self.assertEqual(_reason(OSError(errno.EACCES, None)), "Permission denied")
        self.assertEqual(
            _reason(CannotListenError(None, b"/run/x", "Cannot acquire lock")), "Cannot acquire lock"
        )
        self.assertEqual(_reason(OverflowError("port must be 0-65535.")), "port must be 0-65535.")
        self.assertEqual(_reason(RuntimeError()), "RuntimeError")

    def test_openssls_words(self) -> None:
        said = _reason(SSL.Error([("x509", "", "key values mismatch")]))
        self.assertIn("cannot be used (key values mismatch): needed are", said)
        self.assertIn("OpenSSL gives no reason", _reason(SSL.Error()))


class Taken(TestCase):
    """On the real reactor, whose words these are."""

    async def reason(self, description: str) -> str:
        try:
            port: Any = await bind(reactor, description, Factory())
        except BindError as error:
            self.assertIn(f"cannot listen on {description!r}: ", str(error))
            return error.reason
        await port.stopListening()
        return ""

    async def test_a_taken_port(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            number = other.getsockname()[1]
            reason = await self.reason(f"tcp:{number}:interface=127.0.0.1")
        self.assertEqual(reason, "Address already in use (something else listens there)")

    async def test_addresses_and_paths_that_cannot_be(self) -> None:
        self.assertIn("port must be", await self.reason("tcp:99999:interface=127.0.0.1"))
        self.assertEqual(await self.reason("unix:/nowhere/at/all"), "No such file or directory")

    async def test_a_unix_socket_gets_its_mode(self) -> None:
        # Not in trial's folder: a socket's path may have 107 bytes at most.
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        name = folder / "s"
        port: Any = await bind(reactor, f"unix:{name}", Factory())
        self.assertEqual(name.stat().st_mode & 0o777, 0o600)
        await port.stopListening()
