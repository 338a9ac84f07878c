"""Which requests get to the channel, and what the others are told."""

import gzip
import itertools
import json

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.address import UNIXAddress
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.interfaces import WireLimits
from tests.http_wire import ANSWER, BODY, HalfCloseable, Wire, answer, chunked, echo, events, post


class Accepted(SynchronousTestCase):
    """What a POST may look like."""

    def test_plain(self) -> None:
        wire = Wire(answer)
        [got] = wire.send(post())
        self.assertEqual(wire.channel.messages, [BODY])
        self.assertEqual(
            (got.status, got.body, got.fields),
            (
                200,
                ANSWER,
                {
                    "date": "Sun, 06 Nov 1994 08:49:37 GMT",
                    "content-type": "application/json",
                    "content-length": str(len(ANSWER)),
                },
            ),
        )
        self.assertFalse(wire.transport.disconnecting)

    def test_what_the_channel_sees(self) -> None:
        wire = Wire(answer)
        wire.send(post(Mcp_Method="ping", X_Odd="  padded \t", MCP_Protocol_Version="2026-07-28", X_Empty=""))
        [exchange] = wire.channel.exchanges
        self.assertEqual(exchange.headers[b"mcp-method"], b"ping")
        self.assertEqual(exchange.headers[b"x-odd"], b"padded")
        self.assertEqual(exchange.headers[b"x-empty"], b"")
        self.assertEqual(exchange.headers[b"mcp-protocol-version"], b"2026-07-28")
        self.assertEqual(exchange.calls, {})
        self.assertTrue(exchange.streaming)
        self.assertEqual((exchange.peer.transport, exchange.peer.listener), ("http", "web"))
        self.assertEqual(exchange.peer.address, "192.168.1.1:54321")

    def test_repeated_fields_are_joined(self) -> None:
        wire = Wire(answer)
        wire.send(post(X_Many="a").replace(b"X-Many: a", b"X-Many: a\r\nx-many: b\r\nX-MANY: c"))
        self.assertEqual(wire.channel.exchanges[0].headers[b"x-many"], b"a, b, c")

    def test_split_at_every_byte(self) -> None:
        whole = post(Mcp_Method="ping")
        wire = Wire(echo)
        for cut in range(len(whole) + 1):
            [got] = wire.send(whole[:cut], whole[cut:])
            self.assertEqual((got.status, got.body), (200, BODY))
        self.assertEqual({*wire.channel.messages}, {BODY})

    def test_one_byte_at_a_time(self) -> None:
        wire = Wire(echo)
        whole = post() + post(
            chunked(BODY[:7], BODY[7:], trailers=b"X: y\r\n"), length=False, transfer_encoding="chunked"
        )
        got = wire.send(*(whole[i : i + 1] for i in range(len(whole))))
        self.assertEqual([each.body for each in got], [BODY, BODY])

    def test_chunked_with_trailers(self) -> None:
        wire = Wire(answer)
        body = chunked(BODY[:5], BODY[5:], trailers=b"Host: evil\r\nX-Trailer: 1\r\n")
        wire.send(post(body, length=False, transfer_encoding="Chunked"), post())
        self.assertEqual(wire.channel.messages, [BODY, BODY])
        for exchange in wire.channel.exchanges:
            self.assertNotIn(b"x-trailer", exchange.headers)
            self.assertEqual(exchange.headers[b"host"], b"127.0.0.1:8765")

    def test_gzip(self) -> None:
        for coding in ("gzip", "x-gzip", "GZIP"):
            wire = Wire(answer)
            [got] = wire.send(post(gzip.compress(BODY), content_encoding=coding))
            self.assertEqual((got.status, wire.channel.messages), (200, [BODY]))

    def test_identity(self) -> None:
        wire = Wire(answer)
        wire.send(post(content_encoding="identity"))
        self.assertEqual(wire.channel.messages, [BODY])

    def test_empty_body(self) -> None:
        wire = Wire(answer)
        wire.send(post(b""))
        self.assertEqual(wire.channel.messages, [b""])

    def test_targets(self) -> None:
        for target in (b"/mcp", b"/mcp?a=b", b"http://127.0.0.1:8765/mcp", b"HTTP://127.0.0.1:8765/mcp?x"):
            wire = Wire(answer)
            self.assertEqual(wire.send(post(target=target))[0].status, 200, target)

    def test_content_types(self) -> None:
        for kind in (
            "application/json",
            "Application/JSON",
            "application/json; charset=utf-8",
            'application/json;charset="UTF-8"',
            "application/json ; odd=1",
        ):
            self.assertEqual(Wire(answer).send(post(content_type=kind))[0].status, 200, kind)

    def test_leading_empty_lines(self) -> None:
        wire = Wire(answer)
        self.assertEqual([each.status for each in wire.send(b"\r\n\r\n" + post())], [200])

    def test_session_fields_are_ignored(self) -> None:
        wire = Wire(answer)
        [got] = wire.send(post(mcp_session_id="abc", last_event_id="7"))
        self.assertEqual(got.status, 200)
        self.assertNotIn("mcp-session-id", got.fields)

    def test_hosts_on_loopback(self) -> None:
        for host in (
            "localhost",
            "LOCALHOST:1",
            "127.0.0.1",
            "127.0.0.1:80",
            "[::1]",
            "[::1]:8765",
            "127.0.0.9",
        ):
            wire = Wire(answer, address="127.0.0.9")
            self.assertEqual([wire.send(post(host=host))[0].status for _ in range(2)], [200, 200], host)

    def test_configured_hosts(self) -> None:
        for host in ("mcp.example.com", "mcp.example.com:443", "other.example.com:8443"):
            wire = Wire(answer, hosts=("MCP.example.com", "other.example.com:8443"))
            self.assertEqual(wire.send(post(host=host))[0].status, 200, host)

    def test_any_host_elsewhere(self) -> None:
        for address in ("192.0.2.1", "::", None):
            self.assertEqual(Wire(answer, address=address).send(post(host="a.example"))[0].status, 200)

    def test_ipv6_loopback(self) -> None:
        wire = Wire(answer, address="::1")
        self.assertEqual(wire.send(post(host="[::1]:8765"))[0].status, 200)
        self.assertEqual(wire.send(post(host="evil.example"))[0].status, 403)

    def test_unix_peer(self) -> None:
        wire = Wire(answer, address=None, transport=StringTransport(peerAddress=UNIXAddress(None)))
        wire.send(post())
        self.assertEqual(wire.channel.exchanges[0].peer.address, "unix")

    def test_connection_close(self) -> None:
        wire = Wire(answer)
        [got] = wire.send(post(connection="close"))
        self.assertEqual((got.status, got.fields["connection"]), (200, "close"))
        self.assertTrue(wire.transport.disconnecting)

    def test_http_1_0(self) -> None:
        wire = Wire(answer)
        [got] = wire.send(post(version=b"HTTP/1.0", drop=("host",)))
        self.assertEqual((got.status, got.fields["connection"]), (200, "close"))
        self.assertTrue(wire.transport.disconnecting)

    def test_http_1_0_keep_alive(self) -> None:
        wire = Wire(answer)
        old = post(version=b"HTTP/1.0", connection="keep-alive")
        got = wire.send(old, old)
        self.assertEqual([each.fields["connection"] for each in got], ["keep-alive"] * 2)
        self.assertFalse(wire.transport.disconnecting)

    def test_http_1_1_keep_alive_is_not_said(self) -> None:
        [got] = Wire(answer).send(post(connection="keep-alive"))
        self.assertNotIn("connection", got.fields)


class Refused(SynchronousTestCase):
    """Every status that the transport gives by itself."""

    def refuse(
        self, request: bytes, status: int, *, closes: bool = False, wire: Wire | None = None
    ) -> dict[str, str]:
        wire = wire or Wire(answer)
        [got] = wire.send(request)
        self.assertEqual(got.status, status, got)
        self.assertEqual(wire.channel.messages, [])
        self.assertEqual(wire.transport.disconnecting, closes)
        self.assertEqual(got.fields.get("connection"), "close" if closes else None)
        parsed = json.loads(got.body)
        self.assertEqual({*parsed}, {"jsonrpc", "error"})
        self.assertEqual(parsed["error"]["code"], -32600)
        self.assertTrue(parsed["error"]["message"])
        if not closes:
            self.assertEqual(wire.send(post())[0].status, 200)
        return got.fields

    def test_not_http(self) -> None:
        for junk in (
            b"\x16\x03\x01\x02\x00\x01\x00",
            b"FOO /mcp HTTP/1.1\r\n\r\n",
            b'{"jsonrpc":"2.0"}\n',
            b"POST /mcp HTTP/1.1\r\nHost : a\r\n\r\n",
            b"POST /mcp HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n",
            b"POST /mcp HTTP/1.1\nHost: a\n\n",
            b"POST /mcp HTTP/1.1\r\nHost: a\r\nX: \x00\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            post(b"zz\r\nhi\r\n0\r\n\r\n", length=False, transfer_encoding="chunked"),
        ):
            self.refuse(junk, 400, closes=True)

    def test_host_is_required(self) -> None:
        self.refuse(post(drop=("host",)), 400, closes=True)
        for host in ("", "a b", "a,b", "a/b", "user@a", "[::1", "a:b", "a:123456"):
            self.refuse(post(host=host), 400, closes=True)

    def test_two_hosts(self) -> None:
        self.refuse(post(x="y").replace(b"x: y", b"Host: 127.0.0.1:8765"), 400, closes=True)

    def test_foreign_host(self) -> None:
        for host in (
            "evil.example.com",
            "evil.example.com:8765",
            "localhost.evil.com",
            "127.0.0.2",
            "0.0.0.0",
        ):
            self.refuse(post(host=host), 403)

    def test_foreign_host_elsewhere(self) -> None:
        wire = Wire(answer, address="192.0.2.1", hosts=("mcp.example.com", "127.0.0.1:8765"))
        self.refuse(post(host="evil.example.com"), 403, wire=wire)

    def test_foreign_origin(self) -> None:
        for origin in (
            "http://evil.example.com",
            "null",
            "http://localhost.evil.com",
            "http://127.0.0.1@evil.com",
            "localhost",
            "http://localhost/",
            "http://localhost:8765, http://localhost",
        ):
            self.refuse(post(origin=origin), 403)

    def test_loopback_origin_elsewhere(self) -> None:
        for address in ("192.0.2.1", None):
            self.refuse(post(origin="http://localhost"), 403, wire=Wire(answer, address=address))

    def test_browsers_are_checked_before_paths(self) -> None:
        self.refuse(post(target=b"/other", origin="http://evil.example.com"), 403)

    def test_path(self) -> None:
        for target in (b"/", b"/mcp/", b"/MCP", b"/mcpx", b"/m%63p", b"http://127.0.0.1:8765/other", b"*"):
            method = b"OPTIONS" if target == b"*" else b"POST"
            self.refuse(post(target=target, method=method), 404)

    def test_authority_is_not_host(self) -> None:
        self.refuse(post(target=b"http://evil.example.com/mcp"), 400, closes=True)

    def test_method(self) -> None:
        for method in (b"GET", b"DELETE"):
            self.assertEqual(self.refuse(post(b"", method=method), 405)["allow"], "POST, OPTIONS")
        for method in (b"PUT", b"PATCH"):
            allowed = self.refuse(post(b"", method=method), 405)["allow"]
            self.assertEqual(allowed, "POST, GET, DELETE, OPTIONS")

    def test_get_without_body(self) -> None:
        self.refuse(post(b"", method=b"GET", length=False, accept="text/event-stream"), 405)

    def test_head(self) -> None:
        wire = Wire(answer)
        wire.connection.dataReceived(post(b"", method=b"HEAD"))
        [got] = wire.answers(bare=True)
        self.assertEqual((got.status, got.body), (405, b""))
        self.assertGreater(int(got.fields["content-length"]), 0)
        self.assertEqual(wire.send(post())[0].status, 200)

    def test_connect(self) -> None:
        wire = Wire(answer)
        connect = b"CONNECT 127.0.0.1:8765 HTTP/1.1\r\nHost: 127.0.0.1:8765\r\n\r\n"
        self.refuse(connect + post(), 405, closes=True, wire=wire)
        self.refuse(post(method=b"CONNECT") + post(), 405, closes=True)

    def test_accept(self) -> None:
        for accept in (
            "text/html",
            "application/json;q=0",
            "application/json;q=0, text/event-stream; Q=0.000",
            "*/*;q=0",
        ):
            self.refuse(post(accept=accept), 406)

    def test_length_required(self) -> None:
        self.refuse(post(b"", length=False), 411)

    def test_too_large(self) -> None:
        limits = WireLimits(message=100)
        self.refuse(post(length=False, content_length="101"), 413, closes=True, wire=Wire(limits=limits))
        self.refuse(post(length=False, content_length="9" * 19), 413, closes=True)
        chunks = post(chunked(b"a" * 60, b"a" * 60), length=False, transfer_encoding="chunked")
        self.refuse(chunks, 413, closes=True, wire=Wire(limits=limits))

    def test_too_large_before_the_body_comes(self) -> None:
        wire = Wire(limits=WireLimits(message=100))
        head = post(b"", length=False, content_length="101")
        self.assertEqual(wire.send(head)[0].status, 413)

    def test_largest(self) -> None:
        wire = Wire(answer, limits=WireLimits(message=100))
        wire.send(post(b"a" * 100))
        wire.send(post(chunked(b"a" * 50, b"a" * 50), length=False, transfer_encoding="chunked"))
        self.assertEqual(wire.channel.messages, [b"a" * 100] * 2)

    def test_refused_body_is_bounded(self) -> None:
        body = chunked(*[b"a" * 60] * 3)
        request = post(body, length=False, transfer_encoding="chunked", method=b"PUT")
        self.refuse(request, 413, closes=True, wire=Wire(limits=WireLimits(message=100)))

    def test_gzip_bomb(self) -> None:
        wire = Wire(limits=WireLimits(message=100_000))
        self.refuse(post(gzip.compress(b"a" * 100_001), content_encoding="gzip"), 413, closes=True, wire=wire)

    def test_bad_gzip(self) -> None:
        whole = gzip.compress(BODY)
        for body in (BODY, whole[:-3], whole + b"x", whole + whole, b""):
            self.refuse(post(body, content_encoding="gzip"), 400)

    def test_content_type(self) -> None:
        for kind in (
            "text/plain",
            "application/jsonx",
            "application/json; charset=latin-1",
            "",
            "multipart/form-data",
        ):
            self.refuse(post(content_type=kind), 415)
        self.assertEqual(self.refuse(post(drop=("content-type",)), 415)["accept"], "application/json")

    def test_content_encoding(self) -> None:
        for coding in ("br", "deflate", "gzip, gzip", "zstd"):
            self.assertEqual(self.refuse(post(content_encoding=coding), 415)["accept-encoding"], "gzip")

    def test_expectation(self) -> None:
        self.refuse(post(expect="the-unexpected"), 417, closes=True)

    def test_many_fields(self) -> None:
        many = {f"x{i}": "y" for i in range(97)}
        self.refuse(post(**many), 431, closes=True)
        repeated = post(x="y").replace(b"x: y\r\n", b"x: y\r\n" * 97)
        self.refuse(repeated, 431, closes=True)
        wire = Wire(answer)
        self.assertEqual(wire.send(post(**{f"x{i}": "y" for i in range(96)}))[0].status, 200)

    def test_long_head(self) -> None:
        limits = WireLimits(headers=1000)
        self.refuse(post(x="y" * 1000), 431, closes=True, wire=Wire(limits=limits))
        self.refuse(post(target=b"/" + b"x" * 1000), 431, closes=True, wire=Wire(limits=limits))

    def test_endless_head(self) -> None:
        for start in (b"POST /", b"POST /mcp HTTP/1.1\r\nx", b"POST /mcp HTTP/1.1\r\nx: "):
            wire = Wire(limits=WireLimits(headers=1000))
            sent = 0
            wire.connection.dataReceived(start)
            while not wire.transport.disconnecting:
                wire.connection.dataReceived(b"y" * 500)
                sent += 500
                self.assertLess(sent, 20_000)
            self.assertEqual(wire.answers()[0].status, 431)

    def test_endless_trailers_and_extensions(self) -> None:
        for filler in (b"2\r\nhi\r\n0\r\nx: ", b"2;ext="):
            wire = Wire(limits=WireLimits(headers=1000))
            wire.connection.dataReceived(post(filler, length=False, transfer_encoding="chunked"))
            for _ in range(3):
                wire.connection.dataReceived(b"y" * 500)
            self.assertEqual(wire.answers()[0].status, 431)

    def test_single_bytes_in_chunks_are_no_trailers(self) -> None:
        wire = Wire(echo, limits=WireLimits(headers=300))
        request = post(chunked(*[b"a"] * 900), length=False, transfer_encoding="chunked")
        [got] = wire.send(*(request[i : i + 1] for i in range(len(request))))
        self.assertEqual(got.body, b"a" * 900)

    def test_transfer_codings(self) -> None:
        for coding in ("gzip, chunked", "xchunked", "gzip"):
            self.refuse(post(chunked(BODY), length=False, transfer_encoding=coding), 501, closes=True)

    def test_old_transfer_coding(self) -> None:
        old = post(
            chunked(BODY),
            length=False,
            transfer_encoding="chunked",
            version=b"HTTP/1.0",
            connection="keep-alive",
        )
        self.refuse(old, 400, closes=True)

    def test_version(self) -> None:
        self.refuse(post(version=b"HTTP/2.0"), 505, closes=True)
        self.refuse(post(version=b"HTTP/0.9"), 505, closes=True)
        self.refuse(b"GET /mcp\r\n\r\n", 505, closes=True)


class Smuggling(SynchronousTestCase):
    """Nothing inside a body, and nothing behind a message that cannot be delimited, is ever taken for a request."""

    HIDDEN = post(b'"hidden"')

    def test_ambiguous_framing(self) -> None:
        for name, request in {
            "both": post(chunked(BODY), transfer_encoding="chunked"),
            "both, the other way round": post(
                chunked(BODY), length=False, transfer_encoding="chunked", content_length="4"
            ),
            "two lengths": post(x="y").replace(b"x: y", b"content-length: 3"),
            "the same length twice": post(x="y").replace(b"x: y", b"content-length: %d" % len(BODY)),
            "list of lengths": post(length=False, content_length="3, 3"),
            "signed": post(length=False, content_length="+3"),
            "negative": post(length=False, content_length="-3"),
            "hexadecimal": post(length=False, content_length="0x3"),
            "overflow": post(length=False, content_length="9" * 30),
            "empty": post(length=False, content_length=""),
            "space before colon": post(length=False, **{"content-length ": "3"}),
            "vertical tab": post(chunked(BODY), length=False, transfer_encoding="\x0bchunked"),
            "chunked twice": post(chunked(BODY), length=False, transfer_encoding="chunked, chunked"),
            "chunked is not last": post(chunked(BODY), length=False, transfer_encoding="chunked, identity"),
            "folded": post(length=False, transfer_encoding="\r\n chunked"),
            "bare LF in chunks": post(b"2\nhi\n0\n\n", length=False, transfer_encoding="chunked"),
            "chunk longer than it says": post(
                b"2\r\nhiX\r\n0\r\n\r\n", length=False, transfer_encoding="chunked"
            ),
            "length in trailers": post(
                chunked(BODY, trailers=b"Content-Length: 3\r\n"), length=False, transfer_encoding="chunked"
            ),
            "upgrade and chunked": post(
                chunked(BODY), length=False, transfer_encoding="chunked", upgrade="h2c", connection="Upgrade"
            ),
        }.items():
            wire = Wire(answer)
            wire.connection.dataReceived(request)
            wire.connection.dataReceived(self.HIDDEN)
            got = wire.answers()
            self.assertIn(got[-1].status, {400, 501}, name)
            self.assertEqual(len(got), 1, name)
            self.assertEqual(wire.channel.messages, [], name)
            self.assertTrue(wire.transport.disconnecting, name)

    def test_upgrade_is_ignored_and_the_body_read_by_length(self) -> None:
        body = self.HIDDEN
        request = post(body, upgrade="h2c", connection="Upgrade, HTTP2-Settings", http2_settings="x") + post()
        for cut in range(0, len(request) + 1, 7):
            wire = Wire(answer)
            got = wire.send(request[:cut], request[cut:])
            self.assertEqual([each.status for each in got], [200, 200])
            self.assertEqual(wire.channel.messages, [body, BODY])

    def test_upgrade_without_body(self) -> None:
        wire = Wire(answer)
        upgrade = post(b"", method=b"GET", length=False, upgrade="websocket", connection="Upgrade")
        self.assertEqual([each.status for each in wire.send(upgrade + post())], [405, 200])
        upgrade = post(b"", length=False, upgrade="h2c", connection="Upgrade")
        self.assertEqual([each.status for each in wire.send(upgrade, post())], [411, 200])

    def test_upgrade_with_too_much(self) -> None:
        wire = Wire(answer, limits=WireLimits(message=100))
        upgrade = post(b"a" * 101, method=b"PUT", upgrade="x", connection="Upgrade")
        self.assertEqual([each.status for each in wire.send(upgrade + self.HIDDEN)], [413])
        self.assertEqual(wire.channel.messages, [])

    def test_upgrade_that_closes(self) -> None:
        wire = Wire(answer)
        got = wire.send(post(upgrade="h2c", connection="Upgrade, close") + self.HIDDEN)
        self.assertEqual((len(got), wire.channel.messages), (1, [BODY]))

    def test_refusal_right_after_an_upgrade(self) -> None:
        wire = Wire(answer)
        upgrade = post(upgrade="h2c", connection="upgrade")
        got = wire.send(upgrade * 20 + post(drop=("host",)) + self.HIDDEN)
        self.assertEqual([each.status for each in got], [200] * 20 + [400])
        self.assertEqual(wire.channel.messages, [BODY] * 20)

    def test_refusal_while_an_error_is_handled(self) -> None:
        wire = Wire()
        wire.send(post())
        wire.send(post(drop=("host",)))
        try:
            raise LookupError
        except LookupError:
            wire.channel.exchanges[0].reply(ANSWER)
        self.assertEqual([each.status for each in wire.answers()], [200, 400])

    def test_nothing_after_close(self) -> None:
        for piece in (post(connection="close") + self.HIDDEN, post(version=b"HTTP/1.0") + self.HIDDEN):
            wire = Wire(answer)
            wire.send(piece, self.HIDDEN)
            self.assertEqual(wire.channel.messages, [BODY])

    def test_nothing_after_a_refusal_that_closes(self) -> None:
        wire = Wire(answer)
        self.assertEqual(len(wire.send(post(expect="x") + self.HIDDEN, self.HIDDEN)), 1)
        self.assertEqual(wire.channel.messages, [])


class Continue(SynchronousTestCase):
    """Expect: 100-continue."""

    def test_asked_for_the_body(self) -> None:
        wire = Wire(answer)
        request = post(expect="100-Continue")
        head = request[: -len(BODY)]
        self.assertEqual([each.status for each in wire.send(head)], [100])
        self.assertEqual([each.status for each in wire.send(BODY)], [200])

    def test_body_is_there_already(self) -> None:
        self.assertEqual([each.status for each in Wire(answer).send(post(expect="100-continue"))], [200])

    def test_refused_instead(self) -> None:
        wire = Wire(answer)
        head = post(b"", length=False, content_length="5", expect="100-continue", content_type="text/plain")
        [got] = wire.send(head, self.__class__.__name__.encode())
        self.assertEqual((got.status, got.fields["connection"]), (415, "close"))
        self.assertTrue(wire.transport.disconnecting)

    def test_after_the_answer_before_it(self) -> None:
        wire = Wire()
        request = post(expect="100-continue")
        self.assertEqual(wire.send(post() + request[: -len(BODY)]), [])
        wire.channel.exchanges[0].reply(ANSWER)
        self.assertEqual([each.status for each in wire.answers()], [200, 100])
        wire.send(BODY)
        self.assertEqual(len(wire.channel.messages), 2)

    def test_old_client(self) -> None:
        wire = Wire(answer)
        request = post(expect="100-continue", version=b"HTTP/1.0")
        self.assertEqual(wire.send(request[: -len(BODY)]), [])
        self.assertEqual(wire.send(BODY)[0].status, 200)


class Browsers(SynchronousTestCase):
    """CORS."""

    ORIGIN = "https://app.example.com"

    def test_configured_origin(self) -> None:
        wire = Wire(answer, origins=(self.ORIGIN,))
        for request in (post(origin=self.ORIGIN), post(origin=self.ORIGIN, accept="text/html")):
            [got] = wire.send(request)
            self.assertEqual(got.fields["access-control-allow-origin"], self.ORIGIN)
            self.assertEqual(got.fields["vary"], "Origin")
            self.assertIn("Mcp-Session-Id", got.fields["access-control-expose-headers"])
        self.assertEqual(len(wire.channel.messages), 1)

    def test_stream(self) -> None:
        wire = Wire(lambda _, exchange: (exchange.notify(b"1"), exchange.reply(b"2")), origins=(self.ORIGIN,))
        [got] = wire.send(post(origin=self.ORIGIN))
        self.assertEqual(events(got.body), ["1", "2"])
        self.assertEqual(got.fields["access-control-allow-origin"], self.ORIGIN)

    def test_no_origin_no_cors(self) -> None:
        [got] = Wire(answer, origins=(self.ORIGIN,)).send(post())
        self.assertNotIn("access-control-allow-origin", got.fields)

    def test_this_machine(self) -> None:
        for origin in (
            "http://localhost",
            "http://localhost:6274",
            "https://127.0.0.1:1",
            "http://[::1]:8765",
        ):
            [got] = Wire(answer).send(post(origin=origin))
            self.assertEqual(got.status, 200, origin)
            self.assertNotIn("access-control-allow-origin", got.fields)

    def test_preflight(self) -> None:
        wire = Wire(answer, origins=(self.ORIGIN,))
        [got] = wire.send(
            post(
                b"",
                method=b"OPTIONS",
                length=False,
                origin=self.ORIGIN,
                access_control_request_method="POST",
                access_control_request_headers="content-type, Mcp-Param-Region, x-evil, mcp-param-a b",
            ),
        )
        self.assertEqual((got.status, got.body), (204, b""))
        self.assertNotIn("content-length", got.fields)
        self.assertEqual(got.fields["access-control-allow-origin"], self.ORIGIN)
        self.assertEqual(got.fields["access-control-allow-methods"], "POST, GET, DELETE")
        allowed = got.fields["access-control-allow-headers"].split(", ")
        self.assertLessEqual(
            {"content-type", "mcp-param-region", "authorization", "mcp-protocol-version"}, {*allowed}
        )
        self.assertFalse({"x-evil", "mcp-param-a b"} & {*allowed})
        self.assertEqual(wire.send(post())[0].status, 200)

    def test_preflight_of_others(self) -> None:
        [got] = Wire(answer).send(post(b"", method=b"OPTIONS", origin="http://localhost"))
        self.assertEqual((got.status, got.fields["allow"]), (204, "POST, GET, DELETE, OPTIONS"))
        self.assertNotIn("access-control-allow-origin", got.fields)
        [got] = Wire(answer).send(post(b"", method=b"OPTIONS"))
        self.assertEqual(got.status, 204)


class AnyBytes(SynchronousTestCase):
    """Any byte sequence, in any chunking: an answer or a clean close."""

    def check(self, pieces: list[bytes]) -> None:
        wire = Wire(echo, limits=WireLimits(message=2000, headers=2000), transport=HalfCloseable())
        for piece in pieces:
            wire.connection.dataReceived(piece)
        for got in wire.answers():
            self.assertIn(got.status, {100, 200, 204, *range(400, 432), 501, 505})
        wire.after(60)
        wire.answers()
        wire.connection.readConnectionLost()
        ended = wire.transport.disconnecting or wire.transport.half_closed
        self.assertTrue(ended)
        wire.lose()
        self.assertEqual(wire.shared.connections, {})
        self.assertEqual(wire.admission.here, [])
        wire.after(1)
        self.assertEqual(wire.clock.getDelayedCalls(), [])

    @settings(deadline=None, max_examples=60)
    @given(st.lists(st.binary(max_size=200), max_size=8))
    def test_noise(self, pieces: list[bytes]) -> None:
        self.check(pieces)

    @settings(deadline=None, max_examples=150)
    @given(st.data())
    def test_damaged_requests(self, data: st.DataObject) -> None:
        parts = [
            post(),
            post(connection="close"),
            post(chunked(BODY, BODY), length=False, transfer_encoding="chunked"),
            post(gzip.compress(BODY), content_encoding="gzip"),
            post(upgrade="h2c", connection="upgrade"),
            post(b"", method=b"GET"),
            post(expect="100-continue"),
        ]
        whole = bytearray(b"".join(data.draw(st.lists(st.sampled_from(parts), min_size=1, max_size=4))))
        for _ in range(data.draw(st.integers(0, 4))):
            whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
        cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
        edges = [0, *cuts, len(whole)]
        self.check([bytes(whole[a:b]) for a, b in itertools.pairwise(edges)])

    @settings(deadline=None, max_examples=60)
    @given(st.binary(max_size=300), st.lists(st.integers(0, 700), max_size=8), st.booleans())
    def test_any_body_in_any_chunking(self, body: bytes, cuts: list[int], in_chunks: bool) -> None:
        whole = post(body)
        if in_chunks:
            halves = [part for part in (body[:99], body[99:]) if part]
            whole = post(chunked(*halves), length=False, transfer_encoding="chunked")
        edges = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
        wire = Wire(echo)
        [got] = wire.send(*(whole[a:b] for a, b in itertools.pairwise(edges)))
        self.assertEqual(got.body, body)
