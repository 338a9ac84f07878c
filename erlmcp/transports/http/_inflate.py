"""Taking in a gzip body without taking in a bomb. Pure."""

import zlib

from erlmcp.transports.http._answers import Refusal
from erlmcp.transports.http._exchange import Exchange
from erlmcp.transports.http._head import too_large

_GZIP = 16 + zlib.MAX_WBITS


class InflatedTooLargeError(Exception):
    """The body is larger than the limit once inflated."""


class NotGzipError(Exception):
    """The body is not one whole gzip member."""


def inflate(data: bytes, limit: int) -> bytes:
    """Inflate one gzip member.

    Args:
        data: the body as it came.
        limit: the most bytes that may come of it; no more than one byte beyond is ever held.

    Raises:
        InflatedTooLargeError: it would be more.
        NotGzipError: truncated, damaged, followed by something else, or not gzip at all.
    """
    inflater = zlib.decompressobj(_GZIP)
    try:
        content = inflater.decompress(data, limit + 1)
    except zlib.error as error:
        raise NotGzipError(str(error)) from error
    if len(content) > limit:
        raise InflatedTooLargeError
    if not inflater.eof:
        raise NotGzipError("it is truncated")
    if inflater.unused_data:
        raise NotGzipError("something follows the first gzip member")
    return content


def inflate_body(exchange: Exchange, limit: int) -> Refusal | None:
    """Inflate a request's body in its place; why it cannot be, if so."""
    try:
        exchange.body = inflate(exchange.body, limit)
    except InflatedTooLargeError:
        return too_large(limit)
    except NotGzipError as error:
        return Refusal(400, f"the body is not the gzip that Content-Encoding promises: {error}")
    return None
