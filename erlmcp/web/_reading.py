"""Reading HTTP/1.1 answers with httptools: what it does not check itself is checked here. No I/O."""

from typing import Final

from httptools import HttpParserCallbackError, HttpParserError, HttpParserUpgrade, HttpResponseParser
from twisted.logger import Logger
from twisted.python.failure import Failure

from erlmcp.web._types import Receiver, WebError

log = Logger()

_SLICE: Final = 16 * 1024
_INTERIM: Final = 16
_FINAL: Final = 200
_LAST: Final = 599


class Reading:
    """Reads one answer after the other, and tells its receiver.

    Args:
        bound: the bytes that a head may have, and what may come between two parts of a body.

    Attributes:
        receiver: who is told; None where nobody wants to know any more.
        begun: whether a byte of the answer has come.
        headed: whether its final head has come.
        complete: whether it is complete.
        keeps: whether the connection may be used again after it.
        until_close: whether only the connection's end says that it is complete.
    """

    __slots__ = (
        "_bound",
        "_empty",
        "_fault",
        "_headers",
        "_interim",
        "_length",
        "_overhead",
        "_parser",
        "begun",
        "complete",
        "headed",
        "keeps",
        "receiver",
        "until_close",
    )

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._parser: HttpResponseParser | None = HttpResponseParser(self)
        self._empty = False
        self._fault = ""
        self._headers: list[tuple[bytes, bytes]] = []
        self._interim = 0
        self._length: bytes | None = None
        self._overhead = 0
        self.begun = False
        self.headed = False
        self.complete = False
        self.keeps = False
        self.receiver: Receiver | None = None
        self.until_close = False

    def begin(self, receiver: Receiver | None, *, head_only: bool) -> None:
        """The next answer is for `receiver`; `head_only`: to HEAD, so that no body follows whatever the head says."""
        self._clear(receiver)
        if self._empty or self._parser is None:
            # httptools cannot be told that no body follows, so that parser still waits for one.
            self._parser = HttpResponseParser(self)
        self._empty = head_only

    def feed(self, data: bytes) -> None:
        """Read on.

        Raises:
            WebError: it is no HTTP/1.1 answer, or oversteps a bound.
        """
        parser = self._parser
        if parser is None:
            return
        self.begun = True
        try:
            if self.headed and len(data) <= _SLICE:
                self._feed(parser, data)
            else:
                # The head is measured by what is fed until it is complete.
                for start in range(0, len(data), _SLICE):
                    self._feed(parser, data[start : start + _SLICE])
        except HttpParserUpgrade:
            raise WebError("the server switched to another protocol, which nobody asked for") from None
        except HttpParserError as error:
            if self.complete:
                # What is wrong is not the answer, but what follows it.
                self.keeps = False
            elif self._fault:
                raise WebError(self._fault) from None
            elif isinstance(error, HttpParserCallbackError):
                log.failure("a receiver failed at a part of its answer", Failure(error.__context__ or error))
                raise WebError("the receiver of the answer failed") from None
            else:
                raise WebError(f"the answer is not HTTP/1.1: {error}") from None

    def finish(self, *, clean: bool) -> bool:
        """The connection has ended; whether the answer is complete by that."""
        if self.complete or (clean and self.headed and self.until_close):
            self.complete = True
        return self.complete

    def discard(self) -> None:
        """It is used no more: the parser and this refer to each other, and would wait for the collector."""
        self._parser = None
        self.receiver = None

    # What httptools calls

    def on_message_begin(self) -> None:
        """A head begins."""
        if self.complete:
            # Nobody has asked for another answer yet.
            self.keeps = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header; or a trailer, which nobody asks for."""
        if self.headed:
            if self.complete:
                self._refuse("the server sends more than its answer")
            return
        name = name.lower()
        if name == b"content-length":
            if self._length is not None and self._length != value:
                self._refuse("the answer says two different things of its length")
            self._length = value
        elif name == b"transfer-encoding":
            if value.strip().lower() != b"chunked":
                self._refuse(f"the answer has the transfer encoding {value[:40]!r}, which nobody asked for")
            if self._length is None:
                self._length = b""
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The head is complete, of the answer or of one that comes before it."""
        parser = self._parser
        if parser is None:
            return
        if self.headed:
            self._refuse("the server sends more than its answer")
        status = parser.get_status_code()
        if status < _FINAL:
            self._interim += 1
            if self._interim > _INTERIM:
                self._refuse(f"the server sends {status} again and again, and no answer")
            return
        if status > _LAST:
            self._refuse(f"the answer has the status {status}, which is none")
        self.headed = True
        self.keeps = parser.should_keep_alive()
        bare = self._empty or status in (204, 304)
        self.until_close = self._length is None and not bare
        headers, self._headers = self._headers, []
        if self.receiver is not None:
            self.receiver.head(status, headers)
        if self._empty:
            self.complete = True

    def on_body(self, data: bytes) -> None:
        """A part of the body."""
        self._overhead = 0
        if self._empty:
            self._refuse("a body follows an answer that has none")
        if self.receiver is not None:
            self.receiver.body(data)

    def on_message_complete(self) -> None:
        """The answer is complete, or one that comes before it."""
        if self.headed:
            self.complete = True
        else:
            self._headers = []
            self._length = None

    def _clear(self, receiver: Receiver | None) -> None:
        self.receiver = receiver
        self.begun = False
        self.headed = False
        self.complete = False
        self.keeps = False
        self.until_close = False
        self._headers = []
        self._length = None
        self._interim = 0
        self._overhead = 0
        self._fault = ""

    def _feed(self, parser: HttpResponseParser, data: bytes) -> None:
        if self.complete:
            self.keeps = False
            return
        self._overhead += len(data)
        parser.feed_data(data)
        if self._overhead > self._bound and not self.complete:
            what = "between two parts of the answer" if self.headed else "of headers"
            raise WebError(f"the server sends more than {self._bound} bytes {what}")

    def _refuse(self, fault: str) -> None:
        """Stop the parser, from within it."""
        self._fault = fault
        raise ValueError(fault)
