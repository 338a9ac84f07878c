"""Standard input and output: whatever they are connected to, and whatever a handler prints."""

import fcntl
import os
import pty
import socket
import subprocess
import sys
import tempfile
import tty
from pathlib import Path
from typing import IO, Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from erlmcp.interfaces import IExchange, IListener, ITransport
from erlmcp.transports import BindError, StdioTransport, _streams, claim_standard_streams
from erlmcp.transports._stdio import StdioListener, StdioOptions
from erlmcp.transports._streams import StandardStreams
from tests.doubles import OpenLimits, RecordingChannel, context, echo, hold

ROOT = Path(__file__).parent.parent


def run(*arguments: str, **more: Any) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "tests.stdio_process", *arguments],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        timeout=60,
        check=False,
        **{"stdout": subprocess.PIPE, **more},
    )


def file_of(data: bytes) -> IO[bytes]:
    file = tempfile.TemporaryFile()  # noqa: SIM115 - its callers close it
    file.write(data)
    file.seek(0)
    return file


class Processes(SynchronousTestCase):
    """Real processes; what they write is awaited to its end."""

    def test_nothing_but_the_protocol_on_standard_output(self) -> None:
        done = run(input=b'"noise"\n"plain"\n')
        self.assertEqual(done.stdout, b'quiet \necho "plain"\n')
        self.assertEqual(done.returncode, 0)
        for source in (b"print", b"the original sys.stdout", b"os.write", b"C", b"a child"):
            self.assertIn(b"from " + source + b"\n", done.stderr)

    def test_what_was_read_is_answered_after_the_end_of_input(self) -> None:
        done = run(input=b'"late"\n{}\nunfinished')
        self.assertEqual(done.stdout, b"echo {}\nlate\n")
        self.assertEqual(done.returncode, 0)

    def test_the_deadline_ends_it(self) -> None:
        done = run("epoll", "0.5", input=b'"never"\n{}\n')
        self.assertEqual(done.stdout, b"echo {}\n")
        self.assertEqual(done.returncode, 0)

    def test_input_from_a_file_on_either_reactor(self) -> None:
        for kind in ("epoll", "asyncio"):
            with file_of(b"{1}\n{2}\n" * 2000) as file:
                done = run(kind, stdin=file)
            self.assertEqual(done.stdout, b"echo {1}\necho {2}\n" * 2000, done.stderr)
            self.assertEqual(done.returncode, 0)

    def test_output_to_a_file(self) -> None:
        with tempfile.TemporaryFile() as output:
            done = run(input=b"{1}\n" * 3, stdout=output)
            output.seek(0)
            self.assertEqual(output.read(), b"echo {1}\n" * 3)
        self.assertEqual(done.returncode, 0)

    def test_no_input_at_all(self) -> None:
        for kind in ("epoll", "asyncio"):
            done = run(kind, stdin=subprocess.DEVNULL)
            self.assertEqual((done.stdout, done.returncode), (b"", 0), done.stderr)

    def test_closed_streams_are_named(self) -> None:
        for redirection in ("<&-", ">&-"):
            command = f"exec {sys.executable} -m tests.stdio_process {redirection}"
            done = subprocess.run(
                ["/bin/sh", "-c", command],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=60,
                check=False,
            )
            self.assertIn(b"Bad file descriptor", done.stderr)
            self.assertEqual(done.stdout, b"")

    def test_a_terminal(self) -> None:
        ours, theirs = pty.openpty()
        tty.setraw(theirs)
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.stdio_process"],
            cwd=ROOT,
            stdin=theirs,
            stdout=theirs,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs)
        os.write(ours, b"{1}\n")
        self.assertEqual(os.read(ours, 100), b"echo {1}\n")
        os.close(ours)
        self.assertEqual(process.wait(60), 0)

    def test_one_socket_for_both(self) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.stdio_process"],
                cwd=ROOT,
                stdin=theirs,
                stdout=theirs,
                stderr=subprocess.DEVNULL,
            )
            theirs.close()
            ours.sendall(b"{1}\n")
            self.assertEqual(ours.recv(100), b"echo {1}\n")
            ours.shutdown(socket.SHUT_WR)
            self.assertEqual(ours.recv(100), b"")
            self.assertEqual(process.wait(60), 0)

    def test_a_host_that_closes_our_output_ends_us(self) -> None:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.stdio_process"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"{1}\n")
        process.stdin.flush()
        self.assertEqual(process.stdout.readline(), b"echo {1}\n")
        process.stdout.close()
        self.assertEqual(process.wait(60), 0)
        process.stdin.close()


class Claiming(SynchronousTestCase):
    """The claim itself, in this very process, whose streams are put back."""

    def setUp(self) -> None:
        kept = [fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 10) for number in range(3)]
        stdout = sys.stdout

        def put_back() -> None:
            for number, copy in enumerate(kept):
                os.dup2(copy, number)
                os.close(copy)
            sys.stdout = stdout

        self.addCleanup(put_back)
        self.patch(_streams, "_claimed", None)

    def test_output_goes_to_standard_error(self) -> None:
        with file_of(b"the input") as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            os.dup2(given.fileno(), 0)
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            streams = claim_standard_streams()
            self.assertIs(claim_standard_streams(), streams)
            self.addCleanup(os.close, streams.input)
            self.addCleanup(os.close, streams.output)
            os.write(1, b"printed")
            os.write(streams.output, b"protocol")
            self.assertEqual(os.read(0, 10), b"")
            self.assertEqual(os.read(streams.input, 20), b"the input")
            out.seek(0)
            err.seek(0)
            self.assertEqual((out.read(), err.read()), (b"protocol", b"printed"))
            self.assertFalse(os.get_inheritable(streams.output))
            self.assertIs(sys.stdout, sys.stderr)

    def test_with_standard_error_closed_nothing_is_printed(self) -> None:
        with tempfile.TemporaryFile() as out:
            os.dup2(out.fileno(), 1)
            os.close(2)
            self.patch(sys, "stderr", None)
            streams = claim_standard_streams()
            self.addCleanup(os.close, streams.input)
            self.addCleanup(os.close, streams.output)
            os.write(1, b"printed")
            os.write(2, b"printed")
            out.seek(0)
            self.assertEqual(out.read(), b"")


class Listening(TestCase):
    """The listener over pipes of this process."""

    def listen(self, answer: Any, **options: Any) -> StdioListener:
        theirs_in, self.to_us = os.pipe()
        self.from_us, theirs_out = os.pipe()
        self.addCleanup(os.close, self.from_us)
        self.channel = RecordingChannel(answer)
        self.limits = OpenLimits()
        listener = StdioListener(
            context(self.channel, self.limits, reactor),
            StdioOptions(**options),
            StandardStreams(theirs_in, theirs_out),
        )
        self.successResultOf(listener.bind())
        self.listener = listener
        return listener

    def test_provides_its_interfaces(self) -> None:
        transport = StdioTransport()
        verifyObject(ITransport, transport)
        listener = transport.listener(context(RecordingChannel()), StdioOptions())
        verifyObject(IListener, listener)
        self.assertEqual(listener.addresses, ())
        self.assertEqual(StdioOptions().deadline, 10.0)

    async def test_serves_until_the_input_ends(self) -> None:
        listener = self.listen(echo)
        os.write(self.to_us, b"{1}\n{2}\n")
        os.close(self.to_us)
        await listener.ended
        self.assertEqual(os.read(self.from_us, 100), b"echo {1}\necho {2}\n")
        self.assertEqual(os.read(self.from_us, 100), b"")
        self.assertEqual(self.limits.here, [])
        peer = self.channel.exchanges[0].peer
        self.assertEqual((peer.transport, peer.address, peer.uid), ("stdio", "stdio", os.getuid()))
        await listener.close()

    async def test_says_at_once_that_no_more_can_come(self) -> None:
        listener = self.listen(hold)
        os.write(self.to_us, b"{1}\n")
        os.close(self.to_us)
        await listener.exhausted
        self.assertNoResult(listener.ended)
        self.channel.exchanges[0].reply(b"one")
        await listener.ended
        self.assertEqual(os.read(self.from_us, 100), b"one\n")
        await listener.close()

    async def test_drains(self) -> None:
        received: Deferred[IExchange] = Deferred()
        listener = self.listen(lambda message, exchange: received.callback(exchange))
        os.write(self.to_us, b"{1}\n")
        exchange = await received
        drained = listener.drain()
        self.assertNoResult(drained)
        exchange.reply(b"one")
        await drained
        await listener.ended
        self.assertEqual(os.read(self.from_us, 100), b"one\n")
        os.close(self.to_us)

    async def test_closes_though_nobody_reads(self) -> None:
        listener = self.listen(lambda message, exchange: exchange.reply(b"x" * 1_000_000))
        os.write(self.to_us, b"{1}\n")
        while not self.channel.messages:
            await deferLater(reactor, 0)
        await listener.close()
        await listener.ended
        os.close(self.to_us)

    async def test_the_end_of_output_ends_it(self) -> None:
        listener = self.listen(hold)
        os.write(self.to_us, b"{1}\n")
        while not self.channel.messages:
            await deferLater(reactor, 0)
        copy = os.dup(self.to_us)
        os.dup2(copy, self.from_us)  # closes the reading end
        os.close(copy)
        await listener.ended
        self.assertEqual(self.channel.gone, self.channel.exchanges)
        os.close(self.to_us)
        await listener.close()

    def test_closed_streams_are_named(self) -> None:
        number = os.open(os.devnull, os.O_RDONLY)
        os.close(number)
        listener = StdioListener(context(RecordingChannel()), StdioOptions(), StandardStreams(number, number))
        error = self.failureResultOf(listener.bind(), BindError).value
        self.assertIn("'stdio': standard input or output is closed (Bad file descriptor)", str(error))
