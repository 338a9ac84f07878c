"""GET and DELETE on the MCP path, event ids, priming, and streams that end early: what the handshake era needs."""

from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from erlmcp.interfaces import IExchange, WireLimits
from erlmcp.transports.http._phase import Phase
from tests.http_wire import ANSWER, Answer, Wire, answer, dechunk, events, parse, post

NOTE = b'{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}'
LOST = b'{"jsonrpc":"2.0","error":{"code":-32600,"message":"no such session"}}'
HEAD = (
    b"HTTP/1.1 200 OK\r\n"
    b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
    b"Content-Type: text/event-stream\r\n"
    b"Cache-Control: no-store, no-transform\r\n"
    b"X-Accel-Buffering: no\r\n"
    b"Transfer-Encoding: chunked\r\n"
    b"\r\n"
)
BEAT = b"3\r\n:\n\n\r\n"
LAST = b"0\r\n\r\n"
ALL_METHODS = "POST, GET, DELETE, OPTIONS"


def get(
    *, method: bytes = b"GET", session: str | None = "s1", accept: str = "text/event-stream", **fields: Any
) -> bytes:
    """A GET as clients of the handshake era send it."""
    if session is not None:
        fields["mcp_session_id"] = session
    fields.setdefault("drop", ("content-type",))
    return post(b"", method=method, length=False, accept=accept, **fields)


def delete(**fields: Any) -> bytes:
    return get(method=b"DELETE", accept=fields.pop("accept", "*/*"), **fields)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Open(SynchronousTestCase):
    """A GET whose session the channel knows."""

    def open(self, on_open: Any = None, request: bytes | None = None, **options: Any) -> Wire:
        wire = Wire(answer, on_open=on_open, **options)
        wire.connection.dataReceived(request or get())
        return wire

    def test_the_channel_gets_it(self) -> None:
        wire = self.open(request=get(last_event_id="w-1.7", mcp_protocol_version="2025-11-25"))
        [exchange] = wire.channel.open
        verifyObject(IExchange, exchange)
        self.assertEqual(exchange.headers[b"mcp-session-id"], b"s1")
        self.assertEqual(exchange.headers[b"last-event-id"], b"w-1.7")
        self.assertEqual(exchange.headers[b"mcp-protocol-version"], b"2025-11-25")
        self.assertEqual((exchange.streaming, exchange.session, exchange.calls), (True, None, {}))
        self.assertEqual(exchange.peer, wire.admission.here[0])
        self.assertEqual((wire.channel.messages, wire.channel.ended), ([], []))

    def test_head_alone(self) -> None:
        """The client learns at once that the stream is there, though it carries nothing yet."""
        wire = self.open()
        self.assertEqual(wire.written(), HEAD)
        self.assertEqual(wire.connection.phase, Phase.STREAM)

    def test_said_while_it_is_opened(self) -> None:
        wire = self.open(lambda exchange: (exchange.prime("a.0", 1000), exchange.notify(NOTE, "a.1")))
        self.assertEqual(
            wire.written(),
            HEAD + chunk(b"id: a.0\nretry: 1000\ndata: \n\n") + chunk(b"id: a.1\ndata: " + NOTE + b"\n\n"),
        )

    def test_said_later(self) -> None:
        wire = self.open()
        wire.written()
        [exchange] = wire.channel.open
        exchange.notify(NOTE)
        exchange.prime("a.2", 0)
        exchange.notify(b'{\n"a":1}', "a.3")
        self.assertEqual(
            wire.written(),
            chunk(b"data: " + NOTE + b"\n\n")
            + chunk(b"id: a.2\nretry: 0\ndata: \n\n")
            + chunk(b'id: a.3\ndata: {\ndata: "a":1}\n\n'),
        )

    def test_outlives_many_heartbeats(self) -> None:
        """Neither the lease nor the time for idle connections ends a stream."""
        wire = self.open(limits=WireLimits(lease=10, idle=20, slow=5, heartbeat=15))
        wire.written()
        wire.after(50_000)
        beats = wire.written()
        self.assertEqual(beats, BEAT * (len(beats) // len(BEAT)))
        self.assertGreater(len(beats) // len(BEAT), 3000)
        wire.channel.open[0].notify(NOTE)
        self.assertEqual(wire.written(), chunk(b"data: " + NOTE + b"\n\n"))
        wire.lose()
        wire.after(1)
        self.assertEqual(wire.clock.getDelayedCalls(), [])

    def test_refused(self) -> None:
        fields = ((b"WWW-Authenticate", b"Bearer"),)
        for status in (400, 401, 404, 405, 503):
            wire = self.open(lambda exchange, status=status: exchange.reply(LOST, status, fields))
            [got] = wire.answers()
            self.assertEqual((got.status, got.body, got.fields["www-authenticate"]), (status, LOST, "Bearer"))
            self.assertEqual(got.fields["content-type"], "application/json")
            self.assertEqual(wire.send(post())[0].body, ANSWER)
            self.assertEqual(wire.channel.gone, [])

    def test_left(self) -> None:
        """The stream ends, the connection goes on."""
        wire = self.open()
        wire.channel.open[0].leave()
        self.assertEqual(wire.written(), HEAD + LAST)
        self.assertEqual(wire.connection.phase, Phase.IDLE)
        self.assertEqual([each.body for each in wire.send(post() * 2)], [ANSWER, ANSWER])
        wire.connection.dataReceived(get())
        self.assertEqual(wire.written(), HEAD)
        self.assertEqual(wire.channel.gone, [])

    def test_left_at_once(self) -> None:
        wire = self.open(lambda exchange: (exchange.notify(NOTE, "a.1"), exchange.leave()))
        self.assertEqual(wire.written(), HEAD + chunk(b"id: a.1\ndata: " + NOTE + b"\n\n") + LAST)
        wire = self.open(lambda exchange: exchange.leave())
        self.assertEqual(wire.written(), HEAD + LAST)
        self.assertFalse(wire.transport.disconnecting)

    def test_left_once(self) -> None:
        wire = self.open()
        [exchange] = wire.channel.open
        exchange.leave()
        wire.written()
        for act in (exchange.leave, exchange.begin, exchange.accept, exchange.abandon):
            act()
        exchange.notify(NOTE, "x")
        exchange.prime("x", 1)
        exchange.reply(ANSWER)
        self.assertEqual((wire.written(), wire.connection.phase), (b"", Phase.IDLE))
        self.assertTrue(exchange.congested)

    def test_other_ends(self) -> None:
        for act, last, closes in (
            (lambda exchange: exchange.reply(b""), LAST, False),
            (lambda exchange: exchange.reply(ANSWER, 404), chunk(b"data: " + ANSWER + b"\n\n") + LAST, False),
            (lambda exchange: exchange.accept(), LAST, False),
            (lambda exchange: exchange.abandon(), LAST, True),
        ):
            wire = self.open()
            wire.written()
            act(wire.channel.open[0])
            self.assertEqual((wire.written(), wire.transport.disconnecting), (last, closes))

    def test_client_goes(self) -> None:
        wire = self.open()
        [exchange] = wire.channel.open
        wire.written()
        wire.lose()
        self.assertEqual((wire.channel.gone, wire.admission.here), ([exchange], []))
        exchange.notify(NOTE)
        exchange.leave()
        self.assertEqual(wire.written(), b"")

    def test_client_closes_its_half(self) -> None:
        wire = self.open()
        wire.connection.readConnectionLost()
        self.assertTrue(wire.transport.disconnected)

    def test_what_follows_waits(self) -> None:
        wire = self.open(request=get() + post())
        self.assertEqual((wire.written(), wire.channel.messages), (HEAD, []))
        wire.channel.open[0].leave()
        last, rest = wire.written().split(LAST, 1)
        self.assertEqual((last, [each.body for each in parse(rest)]), (b"", [ANSWER]))

    def test_http_1_0(self) -> None:
        wire = self.open(request=get(version=b"HTTP/1.0", connection="keep-alive"))
        [exchange] = wire.channel.open
        exchange.notify(NOTE, "a.1")
        wire.after(15)
        exchange.leave()
        [got] = wire.answers()
        self.assertEqual((got.fields["connection"], events(got.body)), ("close", [NOTE.decode()]))
        self.assertNotIn("transfer-encoding", got.fields)
        self.assertIn(b"\n\n:\n\n", got.body)
        self.assertTrue(wire.transport.disconnecting)

    def test_http_1_0_left_at_once(self) -> None:
        wire = self.open(
            lambda exchange: exchange.leave(),
            request=get(version=b"HTTP/1.0", connection="keep-alive", accept="*/*"),
        )
        self.assertEqual([each.body for each in wire.answers()], [b""])
        self.assertTrue(wire.transport.disconnecting)

    def test_in_any_form(self) -> None:
        for request in (
            get(accept="*/*"),
            get(accept="application/json, text/event-stream"),
            get(drop=("accept", "content-type")),
            get(target=b"/mcp?x=1"),
            get(target=b"http://127.0.0.1:8765/mcp"),
            get(upgrade="h2c", connection="Upgrade"),
            post(b"ignored", method=b"GET", mcp_session_id="s", accept="text/event-stream"),
            get(mcp_session_id="", session=None),
        ):
            wire = self.open(request=request)
            self.assertEqual((wire.written(), len(wire.channel.open)), (HEAD, 1), request)
            self.assertEqual(wire.channel.messages, [])
            wire.channel.open[0].leave()
            wire.written()
            self.assertEqual([each.body for each in wire.send(post())], [ANSWER])

    def test_in_any_pieces(self) -> None:
        request = get() + post()
        for cut in range(len(request)):
            wire = Wire(answer, on_open=lambda exchange: exchange.leave())
            self.assertEqual(wire.send(request[:cut], request[cut:])[-1].body, ANSWER)
            self.assertEqual(len(wire.channel.open), 1)


class Refused(SynchronousTestCase):
    """GET and DELETE that the channel does not see."""

    def refuse(self, request: bytes, status: int, **options: Any) -> Answer:
        wire = Wire(answer, **options)
        [got, after] = wire.send(request + post())
        self.assertEqual((got.status, after.body), (status, ANSWER))
        self.assertEqual((wire.channel.open, wire.channel.ended), ([], []))
        return got

    def test_without_session(self) -> None:
        """Rule g of the eras: 400 under a handshake version, else 405."""
        for request in (get, delete):
            for version, status in (
                (None, 405),
                ("2026-07-28", 405),
                ("1999-01-01", 405),
                ("2025-11-25", 400),
                ("2025-06-18", 400),
                ("2025-03-26", 400),
                ("2024-11-05", 400),
            ):
                fields = {} if version is None else {"mcp_protocol_version": version}
                got = self.refuse(request(session=None, **fields), status)
                self.assertEqual(got.fields.get("allow"), "POST, OPTIONS" if status == 405 else None)
                if status == 400:
                    self.assertIn("Mcp-Session-Id", got.error["message"])

    def test_no_stream_accepted(self) -> None:
        for accept in ("application/json", "text/html", "text/event-stream;q=0, */*"):
            got = self.refuse(get(accept=accept), 406)
            self.assertIn("text/event-stream", got.error["message"])

    def test_other_methods(self) -> None:
        self.assertEqual(self.refuse(get(method=b"PUT"), 405).fields["allow"], ALL_METHODS)

    def test_elsewhere(self) -> None:
        for request in (get, delete):
            self.refuse(request(target=b"/"), 404)
            self.refuse(request(target=b"/messages?session=x"), 404)

    def test_visitors(self) -> None:
        """The rules for Host and Origin come first, and hold for all methods."""
        for request in (get, delete):
            self.refuse(request(origin="https://evil.example"), 403)
            self.refuse(request(host="evil.example"), 403)
            self.refuse(request(origin="https://evil.example", session=None), 403)

    def test_framing(self) -> None:
        for request in (get, delete):
            for fields, status in (
                ({"transfer_encoding": "gzip"}, {400, 501}),
                ({"expect": "wonders"}, {417}),
                ({"content_encoding": "br"}, {415}),
            ):
                wire = Wire(answer)
                self.assertIn(wire.send(request(**fields))[0].status, status)
                self.assertEqual((wire.channel.open, wire.channel.ended), ([], []))

    def test_large_body(self) -> None:
        wire = Wire(answer, limits=WireLimits(message=10))
        [got] = wire.send(post(b"x" * 11, method=b"GET", mcp_session_id="s"))
        self.assertEqual((got.status, wire.channel.open), (413, []))


class Delete(SynchronousTestCase):
    """The end of a session."""

    def delete(self, status: int, body: bytes = b"", **fields: Any) -> Answer:
        wire = Wire(answer, on_delete=lambda exchange: exchange.reply(body, status))
        [got, after] = wire.send(delete(**fields) + post())
        self.assertEqual((got.status, got.body, after.body), (status, body, ANSWER))
        self.assertEqual([each.headers[b"mcp-session-id"] for each in wire.channel.ended], [b"s1"])
        self.assertEqual(
            (wire.channel.open, wire.channel.messages), ([], [b'{"jsonrpc":"2.0","id":1,"method":"ping"}'])
        )
        return got

    def test_ended(self) -> None:
        self.assertNotIn("content-length", self.delete(204).fields)
        got = self.delete(200)
        self.assertEqual((got.fields["content-length"], got.fields.get("content-type")), ("0", None))
        self.delete(202)

    def test_refused(self) -> None:
        for status in (400, 404, 405):
            self.assertEqual(self.delete(status, LOST).fields["content-type"], "application/json")

    def test_whatever_it_accepts(self) -> None:
        for accept in ("text/html", "text/event-stream", "application/json"):
            self.delete(200, accept=accept)

    def test_later(self) -> None:
        wire = Wire(answer)
        self.assertEqual(wire.send(delete()), [])
        self.assertEqual(wire.connection.phase, Phase.ANSWER)
        wire.channel.ended[0].reply(b"", 204)
        self.assertEqual([each.status for each in wire.answers()], [204])

    def test_client_goes(self) -> None:
        wire = Wire(answer)
        wire.send(delete())
        wire.lose()
        self.assertEqual(wire.channel.gone, wire.channel.ended)
        wire.channel.ended[0].reply(b"", 204)
        self.assertEqual(wire.written(), b"")

    def test_while_draining(self) -> None:
        wire = Wire(answer, on_delete=lambda exchange: exchange.reply(b"", 204))
        wire.connection.dataReceived(delete()[:-2])
        wire.shared.draining = True
        wire.connection.drain()
        [got] = wire.send(b"\r\n")
        self.assertEqual((got.status, got.fields["connection"]), (204, "close"))


class Posted(SynchronousTestCase):
    """What a POST's stream can do besides: ids, priming, leaving early."""

    def test_primed_left_and_come_back_for(self) -> None:
        wire = Wire()
        wire.send(post(mcp_session_id="s1"))
        [exchange] = wire.channel.exchanges
        self.assertEqual(exchange.headers[b"mcp-session-id"], b"s1")
        exchange.prime("a.0", 500)
        exchange.leave()
        [got] = wire.answers()
        self.assertEqual(got.body, b"id: a.0\nretry: 500\ndata: \n\n")
        self.assertFalse(wire.transport.disconnecting)

        wire.channel.on_open = lambda again: (again.notify(ANSWER, "a.1"), again.leave())
        [got] = wire.send(get(last_event_id="a.0"))
        self.assertEqual(got.body, b"id: a.1\ndata: " + ANSWER + b"\n\n")

    def test_ids_before_the_answer(self) -> None:
        wire = Wire(lambda _, exchange: (exchange.notify(NOTE, "a.1"), exchange.reply(ANSWER)))
        [got] = wire.send(post())
        self.assertEqual(got.body, b"id: a.1\ndata: " + NOTE + b"\n\ndata: " + ANSWER + b"\n\n")

    def test_left_before_it_began(self) -> None:
        [got] = Wire(lambda _, exchange: exchange.leave()).send(post())
        self.assertEqual((got.status, got.fields["content-type"], got.body), (200, "text/event-stream", b""))

    def test_where_no_stream_is_taken(self) -> None:
        wire = Wire(
            lambda _, exchange: (
                exchange.prime("a.0", 1),
                exchange.notify(NOTE, "a.1"),
                exchange.reply(ANSWER),
            )
        )
        [got] = wire.send(post(accept="application/json"))
        self.assertEqual((got.fields["content-type"], got.body), ("application/json", ANSWER))
        wire = Wire(lambda _, exchange: exchange.leave())
        self.assertEqual(wire.send(post(accept="application/json")), [])
        self.assertTrue(wire.transport.disconnecting)

    def test_disconnect_is_told(self) -> None:
        """Whether it cancels is the channel's to decide; what it then still says is dropped."""
        wire = Wire()
        wire.send(post(mcp_session_id="s1"))
        [exchange] = wire.channel.exchanges
        exchange.prime("a.0", 1)
        wire.written()
        wire.lose()
        self.assertEqual(wire.channel.gone, [exchange])
        exchange.notify(NOTE, "a.1")
        exchange.reply(ANSWER)
        self.assertEqual(wire.written(), b"")

    def test_heads_with_a_session_are_familiar(self) -> None:
        """They repeat like any other; a GET, a DELETE or another session is never taken for them."""
        wire = Wire(
            answer,
            on_open=lambda exchange: exchange.leave(),
            on_delete=lambda exchange: exchange.reply(b"", 204),
        )
        one = post(mcp_session_id="s1", last_event_id="7")
        other = post(mcp_session_id="s2")
        empty = post(b"", method=b"GET", mcp_session_id="s1")
        statuses = [
            each.status for each in wire.send(one, one, other, one, other, empty, empty, delete(), one)
        ]
        self.assertEqual(statuses, [200] * 7 + [204, 200])
        self.assertEqual(
            [each.headers[b"mcp-session-id"] for each in wire.channel.exchanges],
            [b"s1", b"s1", b"s2", b"s1", b"s2", b"s1"],
        )
        self.assertIs(wire.channel.exchanges[0].headers, wire.channel.exchanges[1].headers)
        self.assertEqual(wire.channel.exchanges[1].headers[b"last-event-id"], b"7")
        self.assertEqual((len(wire.channel.open), len(wire.channel.ended)), (2, 1))
        self.assertEqual(len(wire.shared.familiar), 2)

    def test_sessions_of_familiar_heads_are_apart(self) -> None:
        wire = Wire(lambda _, exchange: (setattr(exchange, "session", object()), exchange.reply(ANSWER)))
        wire.send(post(), post())
        first, second = wire.channel.exchanges
        self.assertIsNot(first.session, second.session)


class Browsers(SynchronousTestCase):
    """A page of a configured origin may use sessions too."""

    ORIGIN = "https://app.example.com"

    def test_preflight(self) -> None:
        wire = Wire(answer, origins=(self.ORIGIN,))
        [got] = wire.send(
            get(
                method=b"OPTIONS",
                session=None,
                origin=self.ORIGIN,
                access_control_request_method="DELETE",
                access_control_request_headers="mcp-session-id, last-event-id",
            )
        )
        self.assertEqual((got.status, got.fields["allow"]), (204, ALL_METHODS))
        self.assertEqual(got.fields["access-control-allow-methods"], "POST, GET, DELETE")
        self.assertLessEqual(
            {"mcp-session-id", "last-event-id"}, {*got.fields["access-control-allow-headers"].split(", ")}
        )

    def test_the_session_is_exposed(self) -> None:
        wire = Wire(
            lambda _, exchange: exchange.reply(ANSWER, 200, ((b"Mcp-Session-Id", b"s1"),)),
            origins=(self.ORIGIN,),
            on_delete=lambda exchange: exchange.reply(b"", 204),
        )
        for request in (post(origin=self.ORIGIN), delete(origin=self.ORIGIN), get(origin=self.ORIGIN)):
            wire.connection.dataReceived(request)
            head = wire.written().partition(b"\r\n\r\n")[0].decode()
            self.assertIn(f"Access-Control-Allow-Origin: {self.ORIGIN}\r\n", head)
            self.assertRegex(head, "Access-Control-Expose-Headers: [^\r]*Mcp-Session-Id")
        self.assertEqual(len(wire.channel.open), 1)


class SlowReaders(SynchronousTestCase):
    """A peer that does not read its stream."""

    def open(self) -> tuple[Wire, Any]:
        wire = Wire(answer, limits=WireLimits(write_buffer=1000, idle=100))
        wire.connection.dataReceived(get())
        wire.written()
        wire.connection.pauseProducing()
        return wire, wire.channel.open[0]

    def test_congested_then_cut(self) -> None:
        wire, exchange = self.open()
        self.assertFalse(exchange.congested)
        exchange.notify(b"x" * 1000, "a.1")
        self.assertTrue(exchange.congested)
        for number in range(2, 5):
            exchange.notify(b"x" * 1000, f"a.{number}")
        self.assertFalse(wire.transport.disconnected)
        exchange.notify(b"x", "a.5")
        self.assertTrue(wire.transport.disconnected)
        wire.lose()
        self.assertEqual(wire.channel.gone, [exchange])

    def test_reads_again(self) -> None:
        wire, exchange = self.open()
        exchange.notify(b"x" * 2000)
        wire.connection.resumeProducing()
        self.assertFalse(exchange.congested)
        wire.after(20)
        self.assertTrue(wire.written().endswith(BEAT))

    def test_stalls(self) -> None:
        wire, _ = self.open()
        wire.after(130)
        self.assertTrue(wire.transport.disconnected)

    def test_left_while_it_does_not_read(self) -> None:
        wire, exchange = self.open()
        exchange.notify(b"x" * 2000)
        exchange.leave()
        self.assertFalse(wire.transport.disconnecting)
        wire.connection.resumeProducing()
        self.assertEqual(
            [each.body for each in parse(HEAD + wire.written() + b"")], [b"data: " + b"x" * 2000 + b"\n\n"]
        )
        self.assertEqual([each.body for each in wire.send(post())], [ANSWER])

    def test_a_long_replay_is_not_cut(self) -> None:
        """What is replayed is said at once, before anybody could read it; the next word waits for the reader."""
        wire = Wire(answer, limits=WireLimits(write_buffer=1000))
        written = wire.transport.write

        def full(data: bytes) -> None:
            written(data)
            wire.connection.pauseProducing()

        wire.transport.write = full  # type: ignore[method-assign]
        replayed = [b"y" * 1000] * 50
        wire.channel.on_open = lambda exchange: [exchange.notify(each, "a.1") for each in replayed]
        wire.connection.dataReceived(get())
        self.assertFalse(wire.transport.disconnected)
        [exchange] = wire.channel.open
        self.assertTrue(exchange.congested)
        body, rest = dechunk(wire.written().removeprefix(HEAD))
        self.assertEqual((events(body), rest), ([each.decode() for each in replayed], b""))
        exchange.notify(b"x")
        self.assertTrue(wire.transport.disconnected)


class Ends(SynchronousTestCase):
    """A listener that drains or closes while streams are open."""

    def test_drain(self) -> None:
        """The channel ends the stream, and with it the connection ends."""
        wire = Wire(answer)
        wire.connection.dataReceived(get())
        wire.written()
        wire.connection.drain()
        self.assertFalse(wire.transport.disconnecting)
        wire.channel.open[0].notify(NOTE)
        wire.channel.open[0].leave()
        self.assertEqual(wire.written(), chunk(b"data: " + NOTE + b"\n\n") + LAST)
        self.assertTrue(wire.transport.disconnecting)

    def test_opened_while_draining(self) -> None:
        """A stream that would only have to end is not begun."""
        wire = Wire(answer)
        wire.connection.dataReceived(get()[:-2])
        wire.shared.draining = True
        wire.connection.drain()
        [got] = wire.send(b"\r\n")
        self.assertEqual(
            (got.status, got.fields["retry-after"], got.fields["connection"]), (503, "1", "close")
        )
        self.assertEqual((wire.channel.open, wire.transport.disconnecting), ([], True))

    def test_connected_while_draining(self) -> None:
        wire = Wire(answer)
        wire.shared.draining = True
        other = wire.beside()
        self.assertEqual([each.status for each in other.send(get())], [503])
        self.assertEqual(wire.channel.open, [])

    def test_many_streams(self) -> None:
        """There are as many streams as connections; connections are bounded."""
        wire = Wire(answer)
        wires = [wire, *(wire.beside() for _ in range(50))]
        for each in wires:
            each.connection.dataReceived(get())
        self.assertEqual(len(wire.admission.here), 51)
        for each in wires:
            each.lose()
        self.assertEqual((wire.admission.here, wire.channel.gone), ([], wire.channel.open))

    def test_lost_while_it_is_opened(self) -> None:
        wire = Wire(answer)
        wire.channel.on_open = lambda exchange: wire.lose()
        wire.connection.dataReceived(get())
        self.assertEqual((wire.channel.gone, wire.written()), (wire.channel.open, b""))
