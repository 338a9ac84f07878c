"""HTTP with SSE as revision 2024-11-05 has it: the endpoint event, messages posted, answers on the stream."""

import gzip
import re
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from erlmcp.interfaces import IExchange, WireLimits
from erlmcp.transports.http import HttpOptions, HttpTransport
from erlmcp.transports.http._old_stream import ENDING, OldStream
from erlmcp.transports.http._phase import Phase
from tests.doubles import OpenLimits, RecordingChannel, context
from tests.http_wire import ANSWER, BODY, HalfCloseable, Wire, answer, dechunk, echo, parse, post

NOTE = b'{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}'
BEAT = b"3\r\n:\n\n\r\n"
LAST = b"0\r\n\r\n"


def message(data: bytes) -> bytes:
    """The event that carries a message."""
    return b"event: message\ndata: " + data + b"\n\n"


def open_stream(**fields: Any) -> bytes:
    fields.setdefault("drop", ("content-type",))
    fields.setdefault("accept", "text/event-stream")
    return post(b"", method=b"GET", target=fields.pop("target", b"/sse"), length=False, **fields)


class Client:
    """A client of the old transport: one connection for its stream, another to post on."""

    def __init__(self, reply: Any = answer, request: bytes | None = None, **options: Any) -> None:
        self.wire = Wire(reply, sse=b"/sse", **options)
        self.join(request)

    def join(self, request: bytes | None = None) -> None:
        self.posts = self.wire.beside()
        self.wire.connection.dataReceived(request or open_stream())
        first = self.heard()
        found = re.fullmatch(rb"event: endpoint\ndata: (/messages\?session=([A-Za-z0-9_-]+))\n\n", first)
        assert found is not None, first
        self.endpoint = found[1]
        self.key = found[2]

    def heard(self) -> bytes:
        """What the stream has carried since the last time."""
        data: bytes = self.wire.written()
        if data.startswith(b"HTTP/1.1 200 OK\r\n"):
            self.head, _, data = data.partition(b"\r\n\r\n")
        content, rest = dechunk(data)
        self.ended = data.endswith(LAST)
        assert rest == b""
        return content

    def post(self, body: bytes = BODY, **fields: Any) -> int:
        [got] = self.posts.send(post(body, target=fields.pop("target", self.endpoint), **fields))
        self.answered = got
        return got.status

    @property
    def stream(self) -> OldStream:
        [stream] = self.wire.shared.old._streams.values()
        return stream


class Messages(SynchronousTestCase):
    def test_endpoint_comes_first(self) -> None:
        client = Client()
        self.assertIn(b"\r\nContent-Type: text/event-stream\r\n", client.head)
        self.assertEqual(len(client.key), 43)
        self.assertEqual(client.wire.connection.phase, Phase.STREAM)
        self.assertEqual((client.wire.channel.open, client.wire.channel.messages), ([], []))

    def test_answered_on_the_stream(self) -> None:
        client = Client(echo)
        self.assertEqual(client.post(b"[1]"), 202)
        self.assertEqual((client.answered.body, client.heard()), (b"", message(b"[1]")))
        for number in range(3):
            self.assertEqual(client.post(b"%d" % number), 202)
        self.assertEqual(client.heard(), b"".join(message(b"%d" % number) for number in range(3)))
        self.assertEqual(client.wire.channel.messages, [b"[1]", b"0", b"1", b"2"])

    def test_one_exchange_without_headers(self) -> None:
        """To the channel it is a stream: era, session and cancellation are those of a connection of lines."""
        client = Client()
        client.post()
        client.post()
        first, second = client.wire.channel.exchanges
        self.assertIs(first, second)
        verifyObject(IExchange, first)
        self.assertEqual((first.headers, first.streaming, first.calls, first.session), (None, True, {}, None))
        self.assertEqual(first.peer, client.wire.admission.here[0])

    def test_said_in_between(self) -> None:
        client = Client(None)
        client.post()
        [exchange] = client.wire.channel.exchanges
        exchange.notify(NOTE, "an.1")
        exchange.prime("an.2", 10)
        exchange.notify(b'{\n"a":1}')
        exchange.reply(ANSWER, 404, ((b"X", b"y"),))
        self.assertEqual(
            client.heard(), message(NOTE) + b'event: message\ndata: {\ndata: "a":1}\n\n' + message(ANSWER)
        )

    def test_no_answer(self) -> None:
        for act in ("accept", "abandon", "leave"):
            client = Client(lambda _, exchange, act=act: getattr(exchange, act)())
            self.assertEqual((client.post(), client.heard()), (202, b""))
            self.assertEqual(client.stream._in_flight, 0)
            self.assertFalse(client.wire.transport.disconnecting)

    def test_any_body(self) -> None:
        """What is wrong with a message is the channel's to say, on the stream."""
        client = Client(lambda _, exchange: exchange.reply(b"error"))
        for body in (b"", b"{", b"[]", b"\xff"):
            self.assertEqual((client.post(body), client.heard()), (202, message(b"error")))

    def test_gzip(self) -> None:
        client = Client(echo)
        self.assertEqual(client.post(gzip.compress(b"[1]"), content_encoding="gzip"), 202)
        self.assertEqual(client.heard(), message(b"[1]"))
        self.assertEqual((client.post(b"no", content_encoding="gzip"), client.heard()), (400, b""))

    def test_further_parameters(self) -> None:
        client = Client(echo)
        for target in (b"?x=1&session=%b", b"?session=%b&x=1", b"?session=%b&session=other"):
            self.assertEqual(client.post(target=b"/messages" + target % client.key), 202)
        self.assertEqual(client.post(target=b"http://127.0.0.1:8765" + client.endpoint), 202)

    def test_whatever_it_accepts(self) -> None:
        client = Client()
        for accept in ("*/*", "text/html", "application/json"):
            self.assertEqual(client.post(accept=accept), 202)
        self.assertEqual(client.post(drop=("accept",)), 202)

    def test_http_1_0(self) -> None:
        wire = Wire(echo, sse=b"/sse")
        wire.connection.dataReceived(open_stream(version=b"HTTP/1.0"))
        endpoint = wire.written().rpartition(b"data: ")[2].strip()
        [got] = wire.beside().send(post(b"[1]", target=endpoint, version=b"HTTP/1.0"))
        self.assertEqual((got.status, got.fields["connection"]), (202, "close"))
        self.assertEqual(wire.written(), message(b"[1]"))

    def test_mcp_path_beside_it(self) -> None:
        client = Client(echo)
        self.assertEqual(
            [each.body for each in client.posts.send(post(b"[1]"), post(b"[2]"))], [b"[1]", b"[2]"]
        )
        self.assertEqual(client.heard(), b"")

    def test_clients_are_apart(self) -> None:
        first = Client(echo)
        second = Client.__new__(Client)
        second.wire = first.wire.beside()
        second.join()
        self.assertNotEqual(first.key, second.key)
        first.post(b"1")
        second.post(b"2")
        self.assertEqual((first.heard(), second.heard()), (message(b"1"), message(b"2")))
        one, other = first.wire.channel.exchanges
        self.assertIsNot(one, other)
        first.wire.lose()
        self.assertEqual((first.post(), second.post(b"3")), (404, 202))
        self.assertEqual(second.heard(), message(b"3"))

    def test_nothing_of_it_is_familiar(self) -> None:
        client = Client()
        client.post()
        client.post()
        self.assertEqual(len(client.wire.shared.familiar), 0)


class Refused(SynchronousTestCase):
    def refuse(self, request: bytes, status: int, **options: Any) -> Any:
        wire = Wire(answer, sse=b"/sse", **options)
        got = wire.send(request)[0]
        self.assertEqual((got.status, wire.channel.messages, len(wire.shared.old)), (status, [], 0))
        return got

    def test_off_by_default(self) -> None:
        wire = Wire(answer)
        got = wire.send(open_stream(), post(target=b"/messages?session=x"))
        self.assertEqual([each.status for each in got], [404, 404])

    def test_guessed(self) -> None:
        """An id is 256 random bits: no guess, part or variation of one gets anything but 404."""
        client = Client()
        key = client.key.decode()
        guesses = [
            "",
            key[:-1],
            key + "A",
            key.swapcase(),
            "%" + key[1:],
            "'" + key,
            "A" * 43,
            "A" * 20_000,
            "../" + key,
        ]
        for guess in guesses:
            target = f"/messages?session={guess}".encode()
            self.assertEqual(client.post(target=target), 404, guess[:60])
            self.assertNotIn(key, client.answered.body.decode())
        for target in (
            b"/messages",
            b"/messages?",
            b"/messages?Session=" + client.key,
            b"/messages?&&=",
            b"/sse?x",
        ):
            status = 405 if target.startswith(b"/sse") else 404
            self.assertEqual(client.post(target=target), status)
        self.assertEqual((client.wire.channel.messages, client.heard()), ([], b""))
        self.assertEqual(len(client.wire.shared.old), 1)
        self.assertEqual(client.post(), 202)

    def test_guesses_leave_nothing_behind(self) -> None:
        wire = Wire(answer, sse=b"/sse")
        for number in range(500):
            self.assertEqual(wire.send(post(target=b"/messages?session=%d" % number))[0].status, 404)
        self.assertEqual(len(wire.shared.old), 0)

    def test_over(self) -> None:
        client = Client()
        client.wire.lose()
        self.assertEqual(client.post(), 404)

    def test_visitors(self) -> None:
        client = Client()
        for fields in ({"origin": "https://evil.example"}, {"host": "evil.example"}):
            self.assertEqual(client.post(**fields), 403)
            self.refuse(open_stream(**fields), 403)
        self.assertEqual(client.wire.channel.messages, [])

    def test_content_type(self) -> None:
        """What a page's form may send without asking is not taken."""
        client = Client()
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
            self.assertEqual(client.post(content_type=kind), 415)
        self.assertEqual(client.wire.channel.messages, [])

    def test_not_acceptable(self) -> None:
        self.refuse(open_stream(accept="application/json"), 406)

    def test_methods(self) -> None:
        for target, allowed in ((b"/sse", "GET"), (b"/messages", "POST")):
            for method in (b"PUT", b"DELETE", b"POST" if allowed == "GET" else b"GET"):
                got = self.refuse(post(b"", method=method, target=target, mcp_session_id="s"), 405)
                self.assertEqual(got.fields["allow"], f"{allowed}, OPTIONS")
            got = self.refuse(
                post(b"", method=b"OPTIONS", target=target, origin="https://a.example"),
                204,
                origins=("https://a.example",),
            )
            self.assertEqual(got.fields["access-control-allow-methods"], allowed)

    def test_too_large(self) -> None:
        client = Client(limits=WireLimits(message=10))
        self.assertEqual((client.post(b"x" * 11), client.wire.channel.messages), (413, []))

    def test_too_slow(self) -> None:
        client = Client()
        client.posts.connection.dataReceived(post(target=client.endpoint)[:-5])
        client.wire.after(12)
        self.assertEqual([each.status for each in client.posts.answers()], [408])
        self.assertEqual(client.wire.channel.messages, [])


class Bounds(SynchronousTestCase):
    def test_in_flight(self) -> None:
        client = Client(None, limits=WireLimits(in_flight=3))
        self.assertEqual([client.post() for _ in range(5)], [202, 202, 202, 429, 429])
        self.assertEqual(client.answered.fields["retry-after"], "1")
        self.assertEqual(len(client.wire.channel.messages), 3)
        client.wire.channel.exchanges[0].reply(ANSWER)
        client.wire.channel.exchanges[0].accept()
        self.assertEqual([client.post() for _ in range(3)], [202, 202, 429])

    def test_congested(self) -> None:
        """Who does not read gets no more work done; what was asked for before is still answered in full."""
        client = Client(None, limits=WireLimits(write_buffer=1000))
        for _ in range(10):
            client.post()
        exchange = client.wire.channel.exchanges[0]
        client.wire.connection.pauseProducing()
        for _ in range(9):
            exchange.reply(b"x" * 1000)
        self.assertTrue(exchange.congested)
        self.assertFalse(client.wire.transport.disconnected)
        self.assertEqual((client.post(), len(client.wire.channel.messages)), (429, 10))
        client.wire.connection.resumeProducing()
        self.assertEqual(client.post(), 202)
        self.assertEqual(client.heard(), message(b"x" * 1000) * 9)

    def test_notifications_cut(self) -> None:
        client = Client(None, limits=WireLimits(write_buffer=1000))
        client.post()
        [exchange] = client.wire.channel.exchanges
        client.wire.connection.pauseProducing()
        for _ in range(4):
            exchange.notify(b"x" * 1000)
        self.assertFalse(client.wire.transport.disconnected)
        exchange.notify(b"x")
        self.assertTrue(client.wire.transport.disconnected)

    def test_stalls(self) -> None:
        client = Client(None, limits=WireLimits(idle=100))
        client.wire.connection.pauseProducing()
        client.wire.after(130)
        self.assertTrue(client.wire.transport.disconnected)

    def test_outlives_many_heartbeats(self) -> None:
        client = Client(echo, limits=WireLimits(lease=10, idle=20, slow=5))
        client.wire.after(10_000)
        beats = client.wire.written()
        self.assertEqual(beats, BEAT * (len(beats) // len(BEAT)))
        self.assertGreater(len(beats), 600 * len(BEAT))
        client.posts = client.wire.beside()
        self.assertEqual((client.post(b"[1]"), client.heard()), (202, message(b"[1]")))

    def test_as_many_as_connections(self) -> None:
        client = Client()
        wires = [client.wire.beside() for _ in range(20)]
        for wire in wires:
            wire.connection.dataReceived(open_stream())
        self.assertEqual((len(client.wire.shared.old), len(client.wire.admission.here)), (21, 22))
        for wire in wires:
            wire.lose()
        self.assertEqual((len(client.wire.shared.old), len(client.wire.admission.here)), (1, 2))


class Ends(SynchronousTestCase):
    def test_client_goes(self) -> None:
        """The end of the stream cancels what it carries; answers that come later are dropped."""
        client = Client(None)
        client.post()
        client.post()
        client.wire.lose()
        [exchange] = client.wire.channel.gone
        self.assertIs(exchange, client.wire.channel.exchanges[0])
        exchange.notify(NOTE)
        exchange.abandon()
        exchange.reply(ANSWER)
        self.assertEqual((client.wire.written(), len(client.wire.shared.old)), (b"", 0))
        self.assertTrue(exchange.congested)

    def test_posting_connection_goes(self) -> None:
        client = Client(None)
        client.post()
        client.posts.lose()
        self.assertEqual(client.wire.channel.gone, [])
        client.wire.channel.exchanges[0].reply(ANSWER)
        self.assertEqual(client.heard(), message(ANSWER))

    def test_goes_while_it_posts(self) -> None:
        client = Client(lambda _, exchange: (client.wire.lose(), exchange.reply(ANSWER)))
        self.assertEqual((client.post(), client.wire.written()), (202, b""))
        self.assertEqual(client.post(), 404)

    def test_never_begun(self) -> None:
        wire = Wire(answer, sse=b"/sse")
        stream = OldStream({}, keep=True, legacy=False)
        stream.attach(wire.connection, wire.admission.here[0])
        stream.detach()
        stream.decline(ENDING)
        self.assertEqual((wire.written(), len(wire.shared.old)), (b"", 0))

    def test_gone_before_it_began(self) -> None:
        wire = Wire(answer, sse=b"/sse")
        wire.connection.dataReceived(open_stream()[:-2])
        wire.lose()
        self.assertEqual((wire.channel.gone, len(wire.shared.old)), ([], 0))

    def test_drain_with_nothing_under_way(self) -> None:
        client = Client()
        client.wire.shared.draining = True
        client.wire.shared.old.drain()
        client.wire.connection.drain()
        self.assertEqual((client.heard(), client.ended), (b"", True))
        self.assertTrue(client.wire.transport.disconnecting)
        self.assertEqual(len(client.wire.channel.gone), 1)
        client.wire.lose()
        self.assertEqual(len(client.wire.channel.gone), 1)

    def test_drain_answers_what_is_under_way(self) -> None:
        client = Client(None)
        client.post()
        client.post()
        client.wire.shared.draining = True
        client.wire.shared.old.drain()
        client.wire.connection.drain()
        self.assertEqual((client.post(), client.answered.fields["connection"]), (503, "close"))
        exchange = client.wire.channel.exchanges[0]
        exchange.reply(ANSWER)
        self.assertEqual((client.heard(), client.ended), (message(ANSWER), False))
        self.assertEqual(client.wire.channel.gone, [])
        exchange.accept()
        self.assertEqual((client.heard(), client.ended), (b"", True))
        self.assertTrue(client.wire.transport.disconnecting)
        self.assertEqual((client.wire.channel.gone, len(client.wire.shared.old)), ([exchange], 0))

    def test_lost_while_it_drains(self) -> None:
        client = Client(None)
        client.post()
        client.wire.shared.old.drain()
        client.wire.lose()
        [exchange] = client.wire.channel.gone
        exchange.abandon()
        self.assertEqual((client.wire.channel.gone, client.wire.written()), ([exchange], b""))

    def test_opened_while_draining(self) -> None:
        wire = Wire(answer, sse=b"/sse")
        wire.shared.draining = True
        self.assertEqual([each.status for each in wire.beside().send(open_stream())], [503])
        self.assertEqual(len(wire.shared.old), 0)

    def test_listener(self) -> None:
        """The whole listener drains, and closes, with streams open."""
        for way in ("drain", "close"):
            limits = OpenLimits()
            channel = RecordingChannel()
            listener: Any = HttpTransport().listener(
                context(channel, limits, endpoint="tcp:0:interface=127.0.0.1"), HttpOptions(sse="/sse")
            )
            wire = HalfCloseable()
            connection = listener.factory.buildProtocol(None)
            connection.makeConnection(wire)
            connection.dataReceived(open_stream())
            ended = getattr(listener, way)()
            self.assertNoResult(ended)
            self.assertTrue(wire.disconnecting)
            connection.connectionLost(None)
            self.successResultOf(ended)
            self.assertEqual((len(channel.gone), limits.here), (1, []))


class Options(SynchronousTestCase):
    def test_paths(self) -> None:
        for options, wrong in (
            ({"sse": "sse"}, "sse: 'sse' is no path; one looks like"),
            ({"sse": "/sse?x"}, "sse: '/sse?x' is no path"),
            ({"sse": "/sse\n"}, "sse: "),
            ({"sse": "/sse", "messages": ""}, "messages: '' is no path"),
            ({"sse": "/mcp"}, "sse: '/mcp' is the 'path' too; each needs a path of its own"),
            ({"sse": "/sse", "messages": "/mcp"}, "messages: '/mcp' is the 'path' too"),
            ({"sse": "/sse", "messages": "/sse"}, "messages: '/sse' is the 'sse' too"),
        ):
            error = self.assertRaises(
                ValueError, HttpTransport().listener, context(RecordingChannel()), HttpOptions(**options)
            )
            self.assertTrue(str(error).startswith(wrong), error)

    def test_other_paths(self) -> None:
        listener: Any = HttpTransport().listener(
            context(RecordingChannel(), endpoint="tcp:0:interface=127.0.0.1"),
            HttpOptions(path="/", sse="/old", messages="/old/in"),
        )
        wire = HalfCloseable()
        connection = listener.factory.buildProtocol(None)
        connection.makeConnection(wire)
        connection.dataReceived(open_stream(target=b"/old"))
        self.assertIn(b"data: /old/in?session=", wire.value())


pieces = st.sampled_from(
    [
        open_stream(),
        open_stream(target=b"/mcp", mcp_session_id="s"),
        post(b"", method=b"DELETE", mcp_session_id="s"),
        post(b"", method=b"GET", target=b"/mcp"),
        post(target=b"/messages?session=x"),
        post(target=b"/messages"),
        post(),
        b"\r\n",
        b"GET /sse HTTP/1.1\r\n",
        b"Mcp-Session-Id: s\r\nHost: localhost\r\n",
        b"Accept: text/event-stream\r\n\r\n",
        b"{}",
    ]
)


class AnyBytes(SynchronousTestCase):
    @settings(max_examples=150, deadline=None)
    @given(
        st.lists(st.one_of(pieces, st.binary(max_size=30)), max_size=8),
        st.lists(st.integers(1, 300), min_size=1, max_size=10),
        st.booleans(),
    )
    def test_answers_or_a_clean_close(self, parts: list[bytes], sizes: list[int], hold: bool) -> None:
        """Any bytes in any chunks, with streams left or kept: nothing is left behind when the connection has gone."""
        wire = Wire(
            echo,
            sse=b"/sse",
            limits=WireLimits(message=2000, headers=2000),
            transport=HalfCloseable(),
            on_open=None if hold else lambda exchange: exchange.leave(),
            on_delete=lambda exchange: exchange.reply(b"", 204),
        )
        data = b"".join(parts)
        place = turn = 0
        while place < len(data):
            size = sizes[turn % len(sizes)]
            wire.connection.dataReceived(data[place : place + size])
            place, turn = place + size, turn + 1
        written = wire.written()
        streams = wire.connection.phase is Phase.STREAM
        for got in parse(written):
            self.assertIn(got.status, {100, 200, 202, 204, *range(400, 432), 501, 505})
        wire.after(60)
        self.assertEqual(streams, wire.connection.phase is Phase.STREAM)
        wire.connection.readConnectionLost()
        self.assertTrue(wire.transport.disconnecting or wire.transport.half_closed)
        wire.lose()
        self.assertEqual((wire.admission.here, len(wire.shared.old)), ([], 0))
        wire.after(1)
        self.assertEqual(wire.clock.getDelayedCalls(), [])

    @settings(max_examples=150, deadline=None)
    @given(st.lists(st.binary(max_size=60), min_size=1, max_size=5))
    def test_any_message(self, bodies: list[bytes]) -> None:
        """Whatever is posted is handed on byte for byte, and answered on the stream in order."""
        client = Client(lambda data, exchange: exchange.reply(data.hex().encode()))
        for body in bodies:
            self.assertEqual(client.post(body), 202)
        self.assertEqual(client.wire.channel.messages, bodies)
        self.assertEqual(client.heard(), b"".join(message(body.hex().encode()) for body in bodies))

    @settings(max_examples=150, deadline=None)
    @given(st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=60))
    def test_any_key(self, text: str) -> None:
        client = Client()
        target = b"/messages?session=" + text.encode().replace(b" ", b"+")
        self.assertIn(client.post(target=target), {400, 404})
        self.assertEqual(client.wire.channel.messages, [])
