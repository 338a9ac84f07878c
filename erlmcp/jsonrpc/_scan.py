"""The exact looks at a document that is valid JSON: linear, past the cheap counts only.

Depth, keys and strings are found with C-speed passes over the bytes, without recursion; duplicate keys with the scanner
of the standard library, which hands over each object's members as pairs and resolves escaped spellings.
"""

import json
import re
from array import array
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
    if len(dict(pairs)) == len(pairs):
        return
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            raise _Repeated(key)
        seen.add(key)


# bool takes a number's text and keeps nothing: converting 10^5 digits would be quadratic, and is nobody's wish here.
_scan = json.JSONDecoder(object_pairs_hook=_look, parse_int=bool, parse_float=bool).decode


def unique_keys(raw: bytes) -> str | None:
    r"""The first key that one object has twice, or None.

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


def depth_of(outside: bytes) -> int:
    """How deep a document nests, given what of it lies outside strings."""
    return max(accumulate(array("b", outside.translate(_NESTING, _NO_BRACKET))), default=0)


def excess(data: bytes, limits: Limits) -> tuple[str, str | None] | None:
    """What a valid JSON document has too much of.

    Returns:
        None if nothing; else a sentence, and the key's name where it is a duplicate key.

    Raises:
        RecursionError: the Python stack has no room left to look.
    """
    outside = b"".join(_STRING.split(data))
    depth = depth_of(outside)
    if depth > limits.depth:
        return f"the message nests {depth} levels deep; at most {limits.depth} are accepted", None
    keys = outside.count(b":")
    if keys > limits.keys:
        return f"the message has {keys} object keys; at most {limits.keys} are accepted", None
    if len(data) > limits.string:
        longest = max((len(string) for string in _STRING.findall(data)), default=2) - 2
        if longest > limits.string:
            return f"the message has a string of {longest} bytes; at most {limits.string} are accepted", None
    if keys > 1:
        repeated = unique_keys(data)
        if repeated is not None:
            shown = msgspec.json.encode(repeated[:_SHOWN]).decode()
            return f"an object has the key {shown} twice; the keys of an object must be unique", repeated
    return None


def accounted_colons(value: object) -> int:
    """The colons that a parsed value explains: one for each key, and those inside its strings.

    A repeated key leaves its object, and whatever colons it brought, out of the parsed value; so this equals the
    colons of the text exactly if no key was repeated, provided that the text spells no colon as an escape.
    """
    count = 0
    pending = [value]
    for item in pending:  # grows as it goes
        kind = type(item)
        if kind is str:
            count += item.count(":")  # type: ignore[attr-defined]
        elif kind is dict:
            count += len(item)  # type: ignore[arg-type]
            pending.extend(item)  # type: ignore[arg-type]
            pending.extend(item.values())  # type: ignore[attr-defined]
        elif kind is list:
            pending.extend(item)  # type: ignore[arg-type]
    return count
