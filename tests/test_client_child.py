"""The wire to a child: what it prints, how it dies, and what the caller hears of it."""

import json
import sys
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from erlmcp.client._child import ChildWire, child_wires
from erlmcp.client._stream import StreamLimits
from erlmcp.client._wire import Outgoing, WireError
from erlmcp.processes import Command, Grace
from tests.children import QUICK, present, sh
from tests.daemon import PATIENCE
from tests.test_client_lines import Inbox


class JudgeTests(SynchronousTestCase):
    """Which of a child's lines are messages."""

    def setUp(self) -> None:
        self.inbox = Inbox()
        self.wire = ChildWire(Clock(), Command(("x",)), "kid", StreamLimits(message=300))
        self.wire._inbox = self.inbox

    def test_what_servers_print(self) -> None:
        lines = (
            b"Server listening on stdio",
            b"[INFO] ready",
            b"[1, 2",
            b"{'method': 'x'}",
            b"[\xff]",
            b"null",
            b"x" * 400,
        )
        for number, line in enumerate(lines, 1):
            self.wire.data_received(line + b"\n")
            self.assertEqual((self.inbox.lines, self.wire.skipped), ([], number), line)

    def test_messages(self) -> None:
        lines = [b'{"jsonrpc":"2.0"}', b' { "a": 1 }', b"{}", b'[{"jsonrpc":"2.0"}]', b'{"broken']
        for line in lines:
            self.wire.data_received(line + b"\r\n")
        self.assertEqual((self.inbox.lines, self.wire.skipped), (lines, 0))

    def test_it_is_said_ever_more_seldom(self) -> None:
        from twisted.logger import globalLogPublisher

        said: list[object] = []

        def observe(event: dict[str, object]) -> None:
            if event.get("peer") == "kid":
                said.append(event["count"])

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        self.wire.data_received(b"noise\n" * 100)
        self.assertEqual(said, [1, 2, 4, 8, 16, 32, 64])

    @settings(deadline=None)
    @given(st.dictionaries(st.text(), st.integers() | st.text()), st.sampled_from([None, 1]))
    def test_any_object_is_a_message(self, members: dict[str, object], indent: int | None) -> None:
        text = json.dumps(members, indent=indent).replace("\n", " ").encode()
        self.assertTrue(self.wire._is_message(text))
        self.assertTrue(self.wire._is_message(b"[" + text + b"]"))
        self.assertFalse(self.wire._is_message(b"-" + text))

    def test_before_it_is_open(self) -> None:
        wire = ChildWire(Clock(), Command(("x",)), "kid")
        wire.data_received(b"{}\n")
        wire.drained()
        wire.closed("output")
        result: list[None] = []
        wire.close().addCallback(result.append)
        self.assertEqual(result, [None])


class ChildWireTests(TestCase):
    timeout = 2 * PATIENCE

    def wire(
        self, command: Command, *, limits: StreamLimits | None = None, grace: Grace | None = None
    ) -> tuple[ChildWire, Inbox]:
        wire = child_wires(reactor, command, limits=limits, grace=grace or Grace(PATIENCE, PATIENCE, 5))()
        assert isinstance(wire, ChildWire)
        self.addCleanup(wire.child.end, Grace(0, 0, 1))
        return wire, Inbox()

    async def lines(self, inbox: Inbox, count: int) -> Sequence[bytes]:
        while len(inbox.lines) < count:
            await inbox.next()
        return inbox.lines

    async def test_a_life(self) -> None:
        wire, inbox = self.wire(Command(("cat",)))
        await wire.open(inbox)
        self.assertEqual((wire.peer, wire.linked, wire.session), ("cat", False, None))
        bodies = [json.dumps({"id": number}).encode() for number in range(3000)]
        for body in bodies:
            wire.send(Outgoing(body))
        self.assertEqual(await self.lines(inbox, 3000), bodies)
        await wire.close()
        await wire.close()
        self.assertEqual((inbox.losses, inbox.failures), ([], []))
        self.assertFalse(present(wire.child.pid or 0))
        wire.send(Outgoing(b"{}"))
        self.assertTrue(inbox.failures[0][1].unsent)

    async def test_more_than_a_pipe_holds(self) -> None:
        """A child that reads slowly: messages wait here, are told apart when it dies, and all arrive if it does not."""
        limits = StreamLimits(outgoing=1_000_000)
        wire, inbox = self.wire(sh("read go; exec cat"), limits=limits)
        await wire.open(inbox)
        body = b'{"x":"' + b"y" * 10_000 + b'"}'
        wire.send(Outgoing(b"{}"))
        for _ in range(90):
            wire.send(Outgoing(body))
        self.assertEqual((inbox.fullness, inbox.failures), ([True], []))
        await self.lines(inbox, 90)
        self.assertEqual(inbox.fullness, [True, False])
        await wire.close()

    async def test_what_was_sent_leaves_before_it_is_closed(self) -> None:
        wire, inbox = self.wire(sh("cat >/dev/null; exit 0"))
        await wire.open(inbox)
        for _ in range(100):
            wire.send(Outgoing(b'{"x":"' + b"y" * 10_000 + b'"}'))
        await wire.close()
        self.assertEqual(inbox.failures, [])

    async def test_noise(self) -> None:
        wire, inbox = self.wire(sh("echo starting; echo '{\"id\":1}'; echo '[INFO] done'; read x"))
        await wire.open(inbox)
        self.assertEqual(await self.lines(inbox, 1), [b'{"id":1}'])
        wire.send(Outgoing(b"{}"))
        await inbox.gone
        self.assertEqual((wire.skipped, len(inbox.lines)), (2, 1))

    async def test_dies_at_once(self) -> None:
        wire, inbox = self.wire(sh("echo one >&2; echo no key >&2; exit 3"))
        await wire.open(inbox)
        error = await inbox.gone
        self.assertEqual(str(error), "/bin/sh ended with exit code 3; last on its standard error: no key")
        self.assertEqual((error.tail, error.unsent), ("one\nno key", False))
        await wire.close()

    async def test_dies_without_a_word(self) -> None:
        wire, inbox = self.wire(sh("read x; kill -KILL $$"))
        await wire.open(inbox)
        wire.send(Outgoing(b"{}", answered=True))
        self.assertEqual(str(await inbox.gone), "/bin/sh ended with signal SIGKILL")

    async def test_answers_and_dies(self) -> None:
        """The answer comes first."""
        wire, inbox = self.wire(sh("read x; echo '{\"id\":1}'; exit 1"))
        await wire.open(inbox)
        wire.send(Outgoing(b"{}", answered=True))
        await inbox.gone
        self.assertEqual(inbox.lines, [b'{"id":1}'])

    async def test_cannot_be_started(self) -> None:
        wire, inbox = self.wire(Command(("/none/such",)))
        with self.assertRaisesRegex(
            WireError, "/none/such could not be started: /none/such: No such file"
        ) as caught:
            await wire.open(inbox)
        self.assertTrue(caught.exception.unsent)
        await wire.close()
        self.assertEqual(inbox.losses, [])

    async def test_closed_while_it_starts(self) -> None:
        wire, inbox = self.wire(Command(("cat",)))
        opening = wire.open(inbox)
        closed = wire.close()
        with self.assertRaisesRegex(WireError, "ended before it ran"):
            await opening
        await closed

    async def test_closes_its_output_but_lives(self) -> None:
        """It is of no use any more, and is ended."""
        wire, inbox = self.wire(sh("echo bye >&2; exec >&-; exec sleep 1000"), grace=QUICK)
        await wire.open(inbox)
        error = await inbox.gone
        self.assertEqual(str(error), "/bin/sh lives, but has closed its standard output")
        self.assertEqual(error.tail, "bye")
        await wire.close()
        self.assertFalse(present(wire.child.pid or 0))

    async def test_closes_its_input_but_lives(self) -> None:
        wire, inbox = self.wire(sh("exec <&-; echo '{}'; exec sleep 1000"), grace=QUICK)
        await wire.open(inbox)
        await self.lines(inbox, 1)
        wire.send(Outgoing(b"{}"))
        self.assertIn("closed its standard input", str(await inbox.gone))

    async def test_closes_its_output_and_then_ends(self) -> None:
        """Then its exit says more."""
        wire, inbox = self.wire(sh("exec >&-; exit 9"))
        await wire.open(inbox)
        self.assertEqual(str(await inbox.gone), "/bin/sh ended with exit code 9")

    async def test_closed_after_it_closed_its_output(self) -> None:
        wire, inbox = self.wire(sh("exec >&-; exec sleep 1000"), grace=QUICK)
        await wire.open(inbox)
        heard: Deferred[None] = Deferred()
        closed = wire.closed

        def listen(what: str) -> None:
            closed(what)
            heard.callback(None)

        wire.closed = listen  # type: ignore[method-assign]
        await heard
        await wire.close()
        self.assertEqual(inbox.losses, [])

    async def test_pause(self) -> None:
        """A child that is not read from is closed all the same."""
        wire, inbox = self.wire(sh("while :; do echo '{\"id\":1}'; done"), grace=QUICK)
        await wire.open(inbox)
        await self.lines(inbox, 1)
        wire.pause()
        wire.resume()
        wire.pause()
        await wire.close()

    async def test_our_own_server(self) -> None:
        """``erlmcp stdio`` as the child; it ends by itself when its input does."""
        script = "import sys; from erlmcp.cli import main; sys.exit(main())"
        argv = (sys.executable, "-c", script, "stdio", "--provider", "erlmcp.examples.demo:provider")
        from tests.daemon import environment

        command = Command(argv, env={"PYTHONPATH": environment()["PYTHONPATH"]})
        wire, inbox = self.wire(command)
        await wire.open(inbox)
        initialize = {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "test", "version": "1"},
        }
        request = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": initialize}
        wire.send(Outgoing(json.dumps(request).encode(), answered=True))
        (answer,) = await self.lines(inbox, 1)
        self.assertEqual(json.loads(answer)["result"]["protocolVersion"], "2025-11-25")
        end = await wire.child.end()
        self.assertEqual(str(end), "exit code 0")
        await wire.close()
