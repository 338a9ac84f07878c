"""The exact looks at a document that is valid JSON: linear, past the cheap counts only.

Depth, keys and strings are found with C-speed passes over the bytes, without recursion; duplicate keys with the scanner
of the standard library, which hands over each object's members as pairs and resolves escaped spellings.
"""

import json
import re
from array import array
from collections import Counter
from itertools import accumulate

import msgspec

from erlmcp.jsonrpc._limits import Limits

_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_NESTING = bytes(1 if byte in b"[{" else 255 if byte in b"]}" else 0 for byte in range(256))
_NO_BRACKET = bytes(byte for byte in range(256) if byte not in b"[]{}")
_SHOWN = 64


class _Repeated(Exception):  # noqa: N818 - control flow out of the scanner, not an error
    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


def _look(pairs: list[tuple[str, object]]) -> None:
    if len(dict(pairs)) != len(pairs):
        raise _Repeated(Counter(key for key, _ in pairs).most_common(1)[0][0])


# bool takes a number's text and keeps nothing: converting 10^5 digits would be quadratic, and is nobody's wish here.
_scan = json.JSONDecoder(object_pairs_hook=_look, parse_int=bool, parse_float=bool).decode
_outline = json.JSONDecoder(
    object_pairs_hook=lambda pairs: [key for key, _ in pairs], parse_int=bool, parse_float=bool
).decode


def unique_keys(raw: bytes) -> str | None:
    r"""A key that one object has twice, or None.

    Spellings count as JSON reads them: ``"\u006dethod"`` is ``"method"``. The same key in two objects is no duplicate.

    Args:
        raw: a valid JSON document in UTF-8, no deeper than `Limits` can say.

    Raises:
        ValueError: it is no valid JSON.
    """
    try:
        _scan(raw.decode())
    except _Repeated as repeated:
        return repeated.key
    return None


def member_names(data: bytes) -> list[str]:
    """The keys of a valid JSON object in order, as often as each is there.

    Raises:
        RecursionError: the Python stack has no room left to look.
    """
    names: list[str] = _outline(data.decode())
    return names


def outside_strings(data: bytes) -> bytes:
    """A valid JSON document without its strings: each colon left is a key's, each bracket an object's or array's."""
    return b"".join(_STRING.split(data))


def depth_of(data: bytes) -> int:
    """How deep a valid JSON document nests."""
    return max(accumulate(array("b", outside_strings(data).translate(_NESTING, _NO_BRACKET))), default=0)


def excess(data: bytes, limits: Limits) -> str | None:
    """What a valid JSON document has too much of.

    Returns:
        None if nothing, else a sentence.

    Raises:
        RecursionError: the Python stack has no room left to look.
    """
    if data.count(b"{") + data.count(b"[") > limits.depth:
        depth = depth_of(data)
        if depth > limits.depth:
            return f"the message nests {depth} levels deep; at most {limits.depth} are accepted"
    keys = data.count(b":")
    if keys > limits.keys:
        keys = outside_strings(data).count(b":")
        if keys > limits.keys:
            return f"the message has {keys} object keys; at most {limits.keys} are accepted"
    if len(data) > limits.string:
        longest = max((len(string) for string in _STRING.findall(data)), default=2) - 2
        if longest > limits.string:
            return f"the message has a string of {longest} bytes; at most {limits.string} are accepted"
    if keys > 1:
        repeated = unique_keys(data)
        if repeated is not None:
            shown = msgspec.json.encode(repeated[:_SHOWN]).decode()
            return f"an object has the key {shown} twice; the keys of an object must be unique"
    return None
