"""Heads that are known again: the same requests come out, whoever read them, and nothing else is taken for one."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.interfaces import WireLimits
from erlmcp.transports.http._familiar import FamiliarHeads
from erlmcp.transports.http._head import Rules
from erlmcp.transports.http._intake import Intake
from erlmcp.transports.http._origin import Visitors

FIELDS = b"Host: localhost\r\nContent-Type: application/json\r\n"
POST = b"POST /mcp HTTP/1.1\r\n" + FIELDS


def post(body: bytes = b"{}", further: bytes = b"") -> bytes:
    return POST + further + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


class NoHeads(FamiliarHeads):
    """Knows nothing again."""

    def find(self, data: bytes) -> None:
        return None


def intake(familiar: FamiliarHeads) -> Intake:
    return Intake(Rules(b"/mcp", Visitors(), 100), WireLimits(headers=600), familiar)


def taken(one: Intake) -> list[tuple[Any, ...]]:
    return [
        (
            exchange.headers,
            bytes(exchange.body),
            exchange.refusal,
            exchange.keep,
            exchange.streaming,
            exchange.cors,
        )
        for exchange in one.queue
    ]


class Known(SynchronousTestCase):
    def test_known_again(self) -> None:
        """A head that was taken is found again, with another body of the same length, on another connection."""
        heads = FamiliarHeads()
        first = intake(heads)
        first.feed(post(b"[1]"))
        self.assertEqual(len(heads), 1)
        second = intake(heads)
        second.feed(post(b"[2]"))
        self.assertEqual([exchange.body for exchange in second.queue], [b"[2]"])
        self.assertIs(second.queue[0].headers, first.queue[0].headers)
        self.assertEqual((second.completed, second.begun), (1, False))

    def test_parser_goes_on_behind(self) -> None:
        """Requests that are known and requests that are not may follow each other in one piece."""
        heads = FamiliarHeads()
        intake(heads).feed(post())
        one = intake(heads)
        one.feed(post() + post(b"[]", b"X-A: 1\r\n") + post() + b"POST")
        self.assertEqual(len(one.queue), 3)
        self.assertTrue(one.begun)

    def test_incomplete_body(self) -> None:
        """A known head whose body has not all come goes to the parser, which waits for it."""
        heads = FamiliarHeads()
        intake(heads).feed(post(b"[1, 2]"))
        one = intake(heads)
        for place in range(len(post(b"[1, 2]"))):
            one.feed(post(b"[3, 4]")[place : place + 1])
        self.assertEqual([exchange.body for exchange in one.queue], [b"[3, 4]"])

    def test_what_is_not_learnt(self) -> None:
        """Only plain heads are: no refusals, nothing that changes the answer or the connection."""
        heads = FamiliarHeads()
        for request in (
            b"GET /mcp HTTP/1.1\r\nHost: localhost\r\n\r\n",
            post(b"x" * 101),
            post(further=b"Connection: close\r\n"),
            post(further=b"Accept: application/json\r\n"),
            post(further=b"Expect: 100-continue\r\n"),
            post(further=b"Content-Encoding: gzip\r\n"),
            post(further=b"Upgrade: h2c\r\n"),
            post(further=b"Origin: http://localhost\r\n"),
            POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            POST.replace(b"1.1", b"1.0") + b"Connection: keep-alive\r\nContent-Length: 2\r\n\r\n{}",
            b"\r\n\r\n" + post(),
            post(further=b"X: " + b"x" * 2100 + b"\r\n"),
        ):
            intake(heads).feed(request)
            self.assertEqual(len(heads), 0, request)

    def test_not_in_one_piece(self) -> None:
        heads = FamiliarHeads()
        one = intake(heads)
        one.feed(post()[:30])
        one.feed(post()[30:])
        self.assertEqual((len(heads), len(one.queue)), (0, 1))

    def test_end_of_the_head_is_the_parsers(self) -> None:
        """What merely contains an empty line somewhere is not remembered as a head."""
        heads = FamiliarHeads()
        for data in (
            b"",
            b"POST",
            b"\r\n\r\n",
            b"no http\r\n\r\n",
            post().replace(b"\r\n\r\n", b"\r\n"),
            POST + b"\r\n\r\n",
        ):
            heads.learn(data, {}, 2)
        self.assertEqual(len(heads), 1)
        self.assertIsNotNone(heads.find(POST + b"\r\n"))

    def test_bounded(self) -> None:
        """At most 512 heads are kept; for every 16th further one, the oldest goes."""
        heads = FamiliarHeads()
        requests = [post(further=b"X: %d\r\n" % number) for number in range(600)]
        one = intake(heads)
        for request in requests:
            one.feed(request)
        self.assertEqual((len(one.queue), len(heads)), (600, 512))
        self.assertIsNone(heads.find(requests[4]))
        self.assertIsNotNone(heads.find(requests[5]))
        self.assertIsNotNone(heads.find(requests[511 + 16 * 5]))
        self.assertIsNone(heads.find(requests[511 + 16 * 5 + 1]))

    def test_more_clients_than_are_kept(self) -> None:
        """They do not drive each other out: about half of a thousand sessions in turn stay familiar."""
        heads = FamiliarHeads()
        requests = [post(further=b"Mcp-Session-Id: %d\r\n" % number) for number in range(1000)]
        one = intake(heads)
        for request in requests * 3:
            one.feed(request)
        self.assertGreater(sum(heads.find(request) is not None for request in requests), 500)
        self.assertEqual(
            {exchange.headers[b"mcp-session-id"] for exchange in one.queue}, {b"%d" % n for n in range(1000)}
        )


pieces = st.sampled_from(
    [
        post(),
        post(b"[1]"),
        post(further=b"Connection: close\r\n"),
        post(further=b"X-A: 1\r\n"),
        POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        b"GET /mcp HTTP/1.1\r\nHost: localhost\r\n\r\n",
        post(further=b"Upgrade: h2c\r\n"),
        b"\r\n",
        b"garbage\r\n\r\n",
        POST,
        b"Content-Length: 2\r\n",
        b"{}",
    ]
)


class Equal(SynchronousTestCase):
    @settings(max_examples=300, deadline=None)
    @given(st.lists(pieces, max_size=8), st.lists(st.integers(1, 200), min_size=1, max_size=12))
    def test_same_requests(self, parts: list[bytes], sizes: list[int]) -> None:
        """With or without known heads, in any chunks: the same requests, the same refusals, the same state."""
        heads = FamiliarHeads()
        intake(heads).feed(post())
        intake(heads).feed(post(b"[1]"))
        data = b"".join(parts)
        ones = intake(heads), intake(NoHeads())
        place = 0
        turn = 0
        while place < len(data):
            size = sizes[turn % len(sizes)]
            for one in ones:
                one.feed(data[place : place + size])
            place, turn = place + size, turn + 1
            self.assertEqual(taken(ones[0]), taken(ones[1]))
            self.assertEqual(
                (ones[0].begun, ones[0].in_body, ones[0].stopped, ones[0].completed),
                (ones[1].begun, ones[1].in_body, ones[1].stopped, ones[1].completed),
            )
