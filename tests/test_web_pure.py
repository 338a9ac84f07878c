"""The HTTP client's pure parts: URLs, heads, packing, and reading answers however they are cut."""

from typing import Any

from hpack import Decoder
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.web import Origin, WebError, WebRequest, join_url, split_url
from erlmcp.web._heads import fault_in, fault_in_head, head_of_one, head_of_two
from erlmcp.web._packing import Packer
from erlmcp.web._reading import Reading
from tests.web_memory import Told


class UrlTests(SynchronousTestCase):
    def test_right(self) -> None:
        for url, origin, target in (
            ("http://a", ("http", "a", 80), b"/"),
            ("https://A.Example:8443/x?y=1#z", ("https", "a.example", 8443), b"/x?y=1"),
            ("https://Bücher.example/é?x=ü", ("https", "xn--bcher-kva.example", 443), b"/%C3%A9?x=%C3%BC"),
            ("http://[::1]:8080/a?", ("http", "::1", 8080), b"/a?"),
            ("http://h/a%20b%2F", ("http", "h", 80), b"/a%20b%2F"),
            ("http://h?q", ("http", "h", 80), b"/?q"),
            ("HTTP://h./", ("http", "h.", 80), b"/"),
            ('http://h/"<>', ("http", "h", 80), b"/%22%3C%3E"),
        ):
            self.assertEqual(split_url(url), (Origin(*origin), target), url)

    def test_wrong(self) -> None:
        for url, says in (
            ("ftp://h/", "does not begin with http"),
            ("h/x", "does not begin with http"),
            ("http:///x", "names no host"),
            ("http://u:p@h/", "user name"),
            ("http://h:0/", "port 0"),
            ("http://h:99999/", "not a URL"),
            ("http://[::1/", "not a URL"),
            ("http://[fe80::1%25eth0]/", "zone"),
            ("http://a..b/", "not one"),
            ("http://-a/", "not one"),
            ("http://xn--\u2603-/", "not one"),
            ("http://h\r\nx: y/", "control character"),
            ("http://h/a b", "blank"),
            ("http://good\\@evil/", "backslash"),
            ("http://h/" + "a" * 9000, "longer"),
        ):
            with self.assertRaises(ValueError) as caught:
                split_url(url)
            self.assertIn(says, str(caught.exception), url)
        # A password is not repeated where it may be logged.
        with self.assertRaises(ValueError) as caught:
            split_url("http://u:secret@h/")
        self.assertNotIn("secret", str(caught.exception))

    def test_origins(self) -> None:
        self.assertEqual(Origin("http", "h", 80).authority, b"h")
        self.assertEqual(Origin("https", "h", 80).authority, b"h:80")
        self.assertEqual(Origin("https", "::1", 443).authority, b"[::1]")
        self.assertEqual(str(Origin("https", "::1", 8443)), "https://[::1]:8443")

    def test_references(self) -> None:
        self.assertEqual(join_url("http://h/a/b?c", "../d"), "http://h/d")
        self.assertEqual(join_url("http://h/a", "//other/x"), "http://other/x")

    @settings(deadline=None, max_examples=200)
    @given(st.text(max_size=40))
    def test_whatever_comes(self, text: str) -> None:
        try:
            origin, target = split_url("http://" + text)
        except ValueError:
            return
        self.assertTrue(target.startswith(b"/"))
        self.assertIsNone(fault_in(WebRequest(b"GET", target)))
        self.assertEqual(split_url(str(origin))[0], origin)


class HeadTests(SynchronousTestCase):
    def test_faults(self) -> None:
        for request, says in (
            (WebRequest(b"GE T", b"/"), "method"),
            (WebRequest(b"CONNECT", b"/"), "method"),
            (WebRequest(b"", b"/"), "method"),
            (WebRequest(b"GET", b"http://h/"), "target"),
            (WebRequest(b"GET", b"/ x"), "target"),
            (WebRequest(b"GET", b"/\r\n"), "target"),
            (WebRequest(b"GET", b"/", ((b"X-Upper", b"1"),)), "lower case"),
            (WebRequest(b"GET", b"/", ((b":path", b"1"),)), "lower case"),
            (WebRequest(b"GET", b"/", ((b"", b"1"),)), "lower case"),
            (WebRequest(b"GET", b"/", ((b"transfer-encoding", b"chunked"),)), "own to send"),
            (WebRequest(b"GET", b"/", ((b"content-length", b"1"),)), "own to send"),
            (WebRequest(b"GET", b"/", ((b"host", b"x"),)), "own to send"),
            (WebRequest(b"GET", b"/", ((b"x-a", b"1\r\nx: y"),)), "x-a has a line break"),
            (WebRequest(b"GET", b"/", ((b"x-a", b"\0"),)), "x-a has a line break"),
        ):
            self.assertIn(says, str(fault_in(request)), request)
        good = WebRequest(b"PROPFIND", b"/x?y", ((b"x-a", b"caf\xe9\t"), (b"x-a", b"")))
        self.assertIsNone(fault_in(good))
        self.assertIsNone(fault_in(good))

    def test_answers(self) -> None:
        self.assertIsNone(fault_in_head([(b":status", b"200"), (b"x-seen", b"1"), (b"content-length", b"3")]))
        self.assertIsNone(fault_in_head([(b":status", b"200"), (b"x-seen", b"1")]))
        for field, says in (
            ((b":status", b"200"), "the name b':status'"),
            ((b"X-Upper", b""), "the name b'X-Upper'"),
            ((b"connection", b"close"), "connection"),
            ((b"x-a", b"a\nb"), "x-a has a control character"),
        ):
            self.assertIn(says, str(fault_in_head([(b":status", b"200"), field])), field)

    def test_version_one(self) -> None:
        request = WebRequest(b"POST", b"/x", ((b"a", b"1"),), b"abc")
        self.assertEqual(
            head_of_one(request, b"h:1"),
            b"POST /x HTTP/1.1\r\nhost: h:1\r\na: 1\r\naccept-encoding: identity\r\ncontent-length: 3\r\n\r\n",
        )
        request = WebRequest(b"GET", b"/x", ((b"accept-encoding", b"gzip"),))
        self.assertEqual(
            head_of_one(request, b"h"), b"GET /x HTTP/1.1\r\nhost: h\r\naccept-encoding: gzip\r\n\r\n"
        )
        # An empty POST says so (RFC 9110, 8.6).
        self.assertIn(b"content-length: 0\r\n", head_of_one(WebRequest(b"POST", b"/"), b"h"))

    def test_version_two(self) -> None:
        request = WebRequest(b"POST", b"/x", ((b"a", b"1"), (b"traceparent", b"t")), b"abc")
        fields, fleeting, length = head_of_two(request, b"https", b"h")
        self.assertEqual(fields[0][0], b":method")
        self.assertIn((b"accept-encoding", b"identity"), fields)
        self.assertEqual(fleeting, [(b"traceparent", b"t")])
        self.assertEqual(length, 3)
        fields, _, length = head_of_two(
            WebRequest(b"GET", b"/", ((b"accept-encoding", b"br"),)), b"https", b"h"
        )
        self.assertEqual([value for name, value in fields if name == b"accept-encoding"], [b"br"])
        self.assertIsNone(length)


names = st.sampled_from([b"a", b"mcp-name", b"x-long-name", b"accept", b"authorization"])
pairs = st.tuples(names, st.binary(max_size=12).map(bytes.hex).map(str.encode))
heads = st.lists(st.tuples(st.lists(pairs, max_size=4), st.integers(0, 10**7)), max_size=30)


class PackingTests(SynchronousTestCase):
    def test_the_same_head_is_small(self) -> None:
        packer, decoder = Packer(), Decoder()
        fields = ((b":method", b"POST"), (b"mcp-name", b"echo"), (b"authorization", b"Bearer " + b"x" * 100))
        blocks = [packer.pack(fields, ((b"traceparent", b"%d" % i),), i) for i in range(5)]
        for i, block in enumerate(blocks):
            said = [(bytes(name), bytes(value)) for name, value in decoder.decode(block, raw=True)]
            self.assertEqual(said, [*fields, (b"traceparent", b"%d" % i), (b"content-length", b"%d" % i)])
        self.assertLess(len(blocks[-1]), 30)

    @settings(deadline=None, max_examples=100)
    @given(heads, st.lists(st.tuples(st.integers(0, 30), st.sampled_from([0, 64, 200, 4096])), max_size=5))
    def test_whatever_comes(self, requests: Any, resizes: Any) -> None:
        packer, decoder = Packer(), Decoder()
        for index, (fields, length) in enumerate(requests):
            for at, size in resizes:
                if at == index:
                    packer.header_table_size = size
                    decoder.max_allowed_table_size = size
            for _ in range(3):
                block = packer.pack(tuple(fields), ((b"dpop", b"%d" % length),), length)
                said = [tuple(pair) for pair in decoder.decode(block, raw=True)]
                self.assertEqual(
                    said, [*fields, (b"dpop", b"%d" % length), (b"content-length", b"%d" % length)]
                )

    def test_what_is_remembered_is_bounded(self) -> None:
        packer = Packer()
        # All in the static table, so each is remembered at once.
        statics = [(b":status", b"200"), (b":status", b"204"), (b":path", b"/"), (b":method", b"GET")]
        for length in range(300):
            packer.pack(tuple(statics[(length >> shift) & 3] for shift in range(0, 10, 2)), (), None)
        self.assertLessEqual(len(packer._known), 256)


def read(data: bytes, cuts: list[int], *, head_only: bool = False, bound: int = 4096) -> tuple[Told, Reading]:
    """Feed `data` in pieces."""
    reading, told = Reading(bound), Told()
    reading.begin(told, head_only=head_only)
    start = 0
    for cut in [*sorted(cut % (len(data) + 1) for cut in cuts), len(data)]:
        if cut > start:
            reading.feed(data[start:cut])
            start = cut
    return told, reading


cuts = st.lists(st.integers(0, 2000), max_size=12)


class ReadingTests(SynchronousTestCase):
    @settings(deadline=None, max_examples=200)
    @given(cuts)
    def test_however_it_is_cut(self, where: list[int]) -> None:
        chunked = (
            b"HTTP/1.1 100 Continue\r\nx: y\r\n\r\nHTTP/1.1 103 Early Hints\r\nContent-Length: 7\r\n\r\n"
            b"HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nTransfer-Encoding: chunked\r\nX-A: 1\r\nX-A: 2\r\n\r\n"
            b"5;x=y\r\nhello\r\n6\r\n world\r\n0\r\nTrailer: z\r\n\r\n"
        )
        told, reading = read(chunked, where)
        self.assertEqual((told.status, told.text), (200, b"hello world"))
        self.assertEqual(
            [pair for pair in told.headers if pair[0] == b"x-a"], [(b"x-a", b"1"), (b"x-a", b"2")]
        )
        self.assertNotIn((b"x", b"y"), told.headers)
        self.assertTrue(reading.complete and reading.keeps)
        lengthy = b"HTTP/1.1 404 No\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello"
        told, reading = read(lengthy, where)
        self.assertEqual((told.status, told.text), (404, b"hello"))
        self.assertTrue(reading.complete)
        self.assertFalse(reading.keeps)
        bare = b"HTTP/1.1 204 None\r\n\r\n"
        told, reading = read(bare, where)
        self.assertEqual((told.status, told.text), (204, b""))
        self.assertTrue(reading.complete and reading.keeps)
        endless = b"HTTP/1.0 200 OK\r\n\r\nuntil the end"
        told, reading = read(endless, where)
        self.assertEqual(told.text, b"until the end")
        self.assertFalse(reading.complete)
        self.assertFalse(reading.finish(clean=False))
        self.assertTrue(reading.finish(clean=True))
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n"
        told, reading = read(head, where, head_only=True)
        self.assertTrue(reading.complete and reading.keeps)

    @settings(deadline=None, max_examples=200)
    @given(st.binary(max_size=300), cuts)
    def test_rubbish(self, data: bytes, where: list[int]) -> None:
        for prefix in (b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"):
            try:
                read(prefix + data, where)
            except WebError:
                continue

    def test_one_after_the_other(self) -> None:
        reading = Reading(4096)
        for head_only in (True, False, True, True, False, False):
            told = Told()
            reading.begin(told, head_only=head_only)
            reading.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n" + (b"" if head_only else b"ab"))
            self.assertTrue(reading.complete and reading.keeps)
            self.assertEqual(told.text, b"" if head_only else b"ab")

    def refused(self, data: bytes, says: str, **options: Any) -> None:
        with self.assertRaises(WebError) as caught:
            read(data, [], **options)
        self.assertIn(says, str(caught.exception))

    def test_wrong(self) -> None:
        ok = b"HTTP/1.1 200 OK\r\n"
        self.refused(b"SSH-2.0-x\r\n", "not HTTP/1.1")
        self.refused(ok + b"content-length: 1\r\ncontent-length: 2\r\n\r\n", "not HTTP/1.1")
        self.refused(ok + b"content-length: x\r\n\r\n", "not HTTP/1.1")
        self.refused(ok + b"transfer-encoding: gzip\r\n\r\n", "transfer encoding b'gzip'")
        self.refused(
            b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", "another protocol"
        )
        self.refused(b"HTTP/1.1 100 Continue\r\n\r\n" * 20, "again and again")
        self.refused(b"HTTP/1.1 999 Odd\r\n\r\n", "999")
        self.refused(ok + b"x: " + b"y" * 20_000, "more than 4096 bytes of headers")
        self.refused(ok + b"transfer-encoding: chunked\r\n\r\n1;" + b"x" * 20_000, "between two parts")
        self.refused(
            ok + b"transfer-encoding: chunked\r\n\r\n0\r\n" + b"t: 1\r\n" * 4000, "between two parts"
        )

    def test_more_than_the_answer(self) -> None:
        whole = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nab"
        for more in (whole, b"HTTP/1.1 2", b"rubbish", b"HTTP/1.1 200 OK\r\nx: y\r\nz"):
            told, reading = read(whole + more, [])
            self.assertEqual(told.text, b"ab")
            self.assertTrue(reading.complete)
            self.assertFalse(reading.keeps, more)
            reading.feed(b"and more")
            self.assertFalse(reading.keeps)
        told, reading = read(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nab", [], head_only=True)
        self.assertEqual(told.text, b"")
        self.assertFalse(reading.keeps)

    def test_a_receiver_that_fails(self) -> None:
        reading, told = Reading(4096), Told()
        told.when_head = lambda: 1 / 0
        reading.begin(told, head_only=False)
        with self.assertRaises(WebError) as caught:
            reading.feed(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nab")
        self.assertIn("receiver", str(caught.exception))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_discarded(self) -> None:
        told, reading = read(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\na", [])
        reading.discard()
        reading.feed(b"b")
        self.assertEqual(told.text, b"a")
