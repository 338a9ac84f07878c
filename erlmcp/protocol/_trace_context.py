"""W3C trace context and baggage: what of them may be passed on, and how they are spelt.

Sources: W3C Trace Context, sections 3.2 and 3.3; W3C Baggage, section 3.3; MCP 2026-07-28, basic/index, "OpenTelemetry
trace context". What is not well formed is dropped, as the first demands: a trace is begun anew, no request is refused.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

_TRACEPARENT: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)
_NO_TRACE: Final = "0" * 32
_NO_SPAN: Final = "0" * 16

# Printable, no control characters: what is passed on may become an HTTP header field.
_TRACESTATE: Final = re.compile(r"[\x20-\x7e]{1,512}")
_BAGGAGE: Final = re.compile(r"[\x20-\x7e]{1,8192}")
_MOST_STATES: Final = 32
_MOST_BAGGAGE: Final = 64


class TraceParent(msgspec.Struct, frozen=True):
    """A ``traceparent``: in which trace, and as whose child.

    Attributes:
        trace_id: 32 hexadecimal digits.
        span_id: 16 hexadecimal digits.
        sampled: whether the caller may have recorded it.
    """

    trace_id: str
    span_id: str
    sampled: bool

    def __str__(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"


def read_traceparent(text: str) -> TraceParent | None:
    """Read a ``traceparent``; None for one that is to be ignored.

    Later versions than 00 may say more behind a further dash; what they share with 00 is read.
    """
    if len(text) > 512:
        return None
    match = _TRACEPARENT.fullmatch(text)
    if match is None:
        return None
    version, trace_id, span_id, flags, rest = match.groups()
    if version == "ff" or (version == "00" and rest) or trace_id == _NO_TRACE or span_id == _NO_SPAN:
        return None
    return TraceParent(trace_id, span_id, bool(int(flags, 16) & 1))


def read_trace(traceparent: Any, tracestate: Any = None, baggage: Any = None) -> dict[str, str] | None:
    """What of a client's trace context is to be kept, and passed on.

    A ``tracestate`` means nothing without its ``traceparent``; baggage stands for itself. What is too long to be
    passed on is dropped whole: cut in the middle it would say something else.

    Args:
        traceparent: as sent; here and below anything but text is as good as absent.
        tracestate: as sent.
        baggage: as sent.

    Returns:
        the parts by name; None if there is none.
    """
    kept: dict[str, str] = {}
    if isinstance(traceparent, str) and read_traceparent(traceparent) is not None:
        kept["traceparent"] = traceparent
        if isinstance(tracestate, str) and _listed(_TRACESTATE, tracestate, _MOST_STATES):
            kept["tracestate"] = tracestate
    if isinstance(baggage, str) and _listed(_BAGGAGE, baggage, _MOST_BAGGAGE):
        kept["baggage"] = baggage
    return kept or None


def trace_of_headers(headers: Mapping[bytes, bytes]) -> dict[str, str] | None:
    """The trace context of HTTP header fields, for a request whose `_meta` has none.

    Args:
        headers: names in lower case, a repeated field joined by ``, `` (so a repeated ``traceparent`` is none).
    """
    parent, state, baggage = (headers.get(name) for name in (b"traceparent", b"tracestate", b"baggage"))
    return read_trace(
        None if parent is None else parent.decode("latin-1"),
        None if state is None else state.decode("latin-1"),
        None if baggage is None else baggage.decode("latin-1"),
    )


def _listed(shape: re.Pattern[str], text: str, most: int) -> bool:
    return shape.fullmatch(text) is not None and text.count(",") < most
