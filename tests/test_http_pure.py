"""The parts of the HTTP transport that are functions of bytes alone."""

import gzip
import zlib

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.tcp import Server
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.interfaces import WireLimits
from erlmcp.transports.http._answers import Refusal, Stamp, answer, connection_field, field_lines, status_line
from erlmcp.transports.http._direct import send_at_once, sends_at_once
from erlmcp.transports.http._familiar import FamiliarHeads
from erlmcp.transports.http._head import ACCEPTS_BOTH, ACCEPTS_JSON, ACCEPTS_STREAM, Purpose, Rules, accepted
from erlmcp.transports.http._inflate import InflatedTooLargeError, NotGzipError, inflate
from erlmcp.transports.http._intake import SLICE, Intake
from erlmcp.transports.http._origin import Visitors, is_loopback
from erlmcp.transports.http._sse import chunk, event
from tests.http_wire import BODY, chunked, dechunk, events, post


class Answers(SynchronousTestCase):
    def test_status_lines(self) -> None:
        self.assertEqual(status_line(404), b"HTTP/1.1 404 Not Found\r\n")
        self.assertEqual(status_line(299), b"HTTP/1.1 299 \r\n")

    def test_connection(self) -> None:
        self.assertEqual(connection_field(close=True, legacy=True), b"Connection: close\r\n")
        self.assertEqual(connection_field(close=False, legacy=False), b"")

    def test_refusal_without_words(self) -> None:
        self.assertEqual(Refusal(204, "").body, b"")
        self.assertEqual(Refusal(400, "no").body, b'{"jsonrpc":"2.0","error":{"code":-32600,"message":"no"}}')

    def test_answer(self) -> None:
        fields = field_lines(((b"A", b"b"), (b"C", b"d")))
        self.assertEqual(
            answer(200, b"", fields, b"hi"),
            b"HTTP/1.1 200 OK\r\nA: b\r\nC: d\r\nContent-Length: 2\r\n\r\nhi",
        )
        self.assertTrue(answer(405, b"", b"", b"hi", bare=True).endswith(b"Content-Length: 2\r\n\r\n"))

    def test_date_is_made_once_a_second(self) -> None:
        now = [0.5]
        stamp = Stamp(lambda: now[0])
        first = stamp.date()
        self.assertEqual(first, b"Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n")
        now[0] = 0.9
        self.assertIs(stamp.date(), first)
        now[0] = 1.1
        self.assertEqual(stamp.date(), b"Date: Thu, 01 Jan 1970 00:00:01 GMT\r\n")
        self.assertIn(stamp.date(), stamp.prefix())


class Events(SynchronousTestCase):
    @settings(deadline=None, max_examples=80)
    @given(st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\r"), min_size=1))
    def test_event_round_trip(self, text: str) -> None:
        data = event(text.encode())
        self.assertEqual(events(data), [text.removesuffix("\n")])
        self.assertEqual(dechunk(chunk(data) + b"0\r\n\r\nrest"), (data, b"rest"))


class Inflate(SynchronousTestCase):
    @settings(deadline=None, max_examples=80)
    @given(st.binary(max_size=5000), st.integers(0, 5000))
    def test_limit(self, content: bytes, limit: int) -> None:
        data = gzip.compress(content)
        if len(content) > limit:
            self.assertRaises(InflatedTooLargeError, inflate, data, limit)
        else:
            self.assertEqual(inflate(data, limit), content)

    @settings(deadline=None, max_examples=80)
    @given(st.binary(max_size=200))
    def test_noise(self, data: bytes) -> None:
        try:
            content = inflate(data, 1000)
        except (InflatedTooLargeError, NotGzipError):
            return
        self.assertEqual(gzip.decompress(data), content)

    def test_others(self) -> None:
        for data in (b"", zlib.compress(b"x"), gzip.compress(b"x")[:-1], gzip.compress(b"x") + b"\x00"):
            self.assertRaises(NotGzipError, inflate, data, 1000)


class Accept(SynchronousTestCase):
    def test_table(self) -> None:
        for field, admits in (
            ("", ACCEPTS_BOTH),
            ("*/*", ACCEPTS_BOTH),
            ("application/json, text/event-stream", ACCEPTS_BOTH),
            ("text/event-stream,application/json", ACCEPTS_BOTH),
            ("Application/JSON, TEXT/event-stream", ACCEPTS_BOTH),
            ("application/json", ACCEPTS_JSON),
            ("application/json; q=0.1", ACCEPTS_JSON),
            ("application/*", ACCEPTS_JSON),
            ("text/event-stream", ACCEPTS_STREAM),
            ("text/*;q=0.2, text/html", ACCEPTS_STREAM),
            ("*/*, application/json;q=0", ACCEPTS_STREAM),
            ("*/*;q=0, application/json;q=1.0", ACCEPTS_JSON),
            ("text/*;q=0, */*", ACCEPTS_JSON),
            ("text/html", 0),
            (",,", 0),
            ("*/*;q=0.000", 0),
            ("json", 0),
        ):
            self.assertEqual(accepted(field.encode()), admits, field)

    @settings(deadline=None, max_examples=80)
    @given(st.binary(max_size=400))
    def test_anything(self, field: bytes) -> None:
        self.assertIn(accepted(field), range(4))


class Head(SynchronousTestCase):
    def test_two_lengths(self) -> None:
        # The parser refuses it before the head is complete; should it ever not, this still does.
        rules = Rules(b"/mcp", Visitors(), 1000)
        headers = {b"host": b"localhost", b"content-length": b"3", b"transfer-encoding": b"chunked"}
        refusal = rules.purpose(b"POST", b"/mcp", headers)
        assert isinstance(refusal, Refusal)
        self.assertEqual((refusal.status, refusal.close), (400, True))

    @settings(deadline=None, max_examples=150)
    @given(
        st.sampled_from([b"POST", b"GET", b"OPTIONS", b"CONNECT"]),
        st.sampled_from([b"/mcp", b"/", b"http://localhost/mcp", b"http://", b"*", b""]),
        st.dictionaries(
            st.sampled_from(
                [
                    b"host",
                    b"origin",
                    b"accept",
                    b"content-type",
                    b"transfer-encoding",
                    b"expect",
                    b"content-encoding",
                    b"access-control-request-headers",
                ]
            ),
            st.one_of(
                st.binary(max_size=30), st.sampled_from([b"localhost", b"application/json", b"chunked"])
            ),
        ),
        st.sampled_from(["0.9", "1.0", "1.1", "2.0"]),
    )
    def test_any_head(self, method: bytes, target: bytes, headers: dict[bytes, bytes], version: str) -> None:
        rules = Rules(b"/mcp", Visitors(["https://a.example"]), 1000)
        found = rules.purpose(method, target, headers, version)
        if isinstance(found, Purpose):
            self.assertEqual(method, {Purpose.MESSAGE: b"POST", Purpose.OPEN: b"GET"}[found])
        else:
            self.assertIn(found.status, {204, *range(400, 432), 501, 505})


class WhoVisits(SynchronousTestCase):
    def test_loopback(self) -> None:
        for address in ("127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1"):
            self.assertTrue(is_loopback(address), address)
        for address in ("0.0.0.0", "::", "10.0.0.1", "128.0.0.1", "fe80::1", "::ffff:10.0.0.1"):
            self.assertFalse(is_loopback(address), address)

    def test_loopback_until_told(self) -> None:
        visitors = Visitors()
        self.assertFalse(visitors.host_is_ours(b"a.example"))
        visitors.listen_on("192.0.2.1")
        self.assertTrue(visitors.host_is_ours(b"a.example"))
        visitors.listen_on("127.0.0.1")
        self.assertFalse(visitors.host_is_ours(b"a.example"))

    def test_memory_of_hosts_is_bounded(self) -> None:
        visitors = Visitors()
        visitors.listen_on("192.0.2.1")
        for port in range(1000):
            self.assertTrue(visitors.host_is_ours(b"a:%d" % port))
        self.assertEqual(len(visitors._known), 64)

    def test_foreign_host_is_never_remembered(self) -> None:
        visitors = Visitors()
        for _ in range(2):
            self.assertFalse(visitors.host_is_ours(b"evil.example"))


class Pieces(SynchronousTestCase):
    """However the bytes are cut, the same requests come out."""

    REQUESTS = (
        post(),
        post(chunked(BODY, BODY, trailers=b"X: y\r\n"), length=False, transfer_encoding="chunked"),
        post(upgrade="h2c", connection="upgrade"),
        post(method=b"PUT"),
        post(b"", method=b"GET", length=False),
    )

    def intake(self) -> Intake:
        return Intake(Rules(b"/mcp", Visitors(), 10_000), WireLimits(), FamiliarHeads())

    def test_cut_anywhere(self) -> None:
        whole = b"".join(self.REQUESTS)
        wanted = [(each.body, each.refusal) for each in self.take(whole)]
        self.assertEqual(len(wanted), len(self.REQUESTS))
        for cut in range(len(whole)):
            got = [(each.body, each.refusal) for each in self.take(whole[:cut], whole[cut:])]
            self.assertEqual(got, wanted, cut)

    def take(self, *pieces: bytes) -> list[object]:
        intake = self.intake()
        for piece in pieces:
            intake.feed(piece)
        self.assertFalse(intake.begun)
        return [*intake.queue]

    def test_queue_is_bounded_by_the_slice(self) -> None:
        smallest = b"GET / HTTP/1.1\r\n\r\n"
        keeping = b"GET / HTTP/1.1\r\nhost:localhost\r\n\r\n"
        intake = self.intake()
        intake.feed((keeping * SLICE)[:SLICE])
        self.assertLessEqual(len(intake.queue), SLICE // len(keeping))
        self.assertEqual(len(self.intake_after(smallest * 10).queue), 1)

    def intake_after(self, data: bytes) -> Intake:
        intake = self.intake()
        intake.feed(data)
        return intake

    def test_stopped_in_a_body_by_length(self) -> None:
        intake = Intake(Rules(b"/mcp", Visitors(), 10), WireLimits(message=10), FamiliarHeads())
        upgrade = post(b"a" * 20, method=b"PUT", upgrade="x", connection="upgrade")
        for i in range(len(upgrade)):
            intake.feed(upgrade[i : i + 1])
        self.assertTrue(intake.stopped)
        [refused] = intake.queue
        assert refused.refusal is not None
        self.assertEqual(refused.refusal.status, 413)

    def test_discarded(self) -> None:
        intake = self.intake()
        intake.discard()
        intake.feed(post())
        self.assertEqual([*intake.queue], [])


class FakeServer(Server):
    """A TCP connection that takes what it is told to take."""

    def __init__(self, takes: object) -> None:  # no socket, no reactor
        self.takes = takes
        self.connected = 1
        self.dataBuffer = b""
        self._tempDataLen = 0
        self.sent = b""
        self.socket = self

    def send(self, data: bytes) -> int:
        if isinstance(self.takes, OSError):
            raise self.takes
        assert isinstance(self.takes, int)
        self.sent += data[: self.takes]
        return min(len(data), self.takes)


class Direct(SynchronousTestCase):
    """Sending without waiting for the reactor's next turn."""

    def test_who(self) -> None:
        self.assertFalse(sends_at_once(FakeServer(1)))
        self.assertTrue(sends_at_once(Server.__new__(Server)))

    def test_all_or_some(self) -> None:
        for takes, left in ((10, b""), (3, b"lo"), (0, b"hello")):
            server = FakeServer(takes)
            self.assertEqual(send_at_once(server, b"hello"), left)
            self.assertEqual(server.sent + left, b"hello")

    def test_never_past_what_waits(self) -> None:
        for name, value in (
            ("dataBuffer", b"x"),
            ("_tempDataLen", 1),
            ("disconnecting", True),
            ("connected", 0),
        ):
            server = FakeServer(10)
            setattr(server, name, value)
            self.assertEqual((send_at_once(server, b"hello"), server.sent), (b"hello", b""))

    def test_error(self) -> None:
        self.assertEqual(send_at_once(FakeServer(OSError()), b"hello"), b"hello")
