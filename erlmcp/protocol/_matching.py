"""Telling back which values a URI was expanded from, in time linear in the URI and without backtracking.

Each variable takes the shortest text that the rest can live with. No choice has to be taken back: all narrow
variables of a template share one set of characters that they cannot have, so a literal with such a character fits
in one place only, and for any other literal a place further left never spoils what follows. A wide variable takes
what is left between the part matched from the front and the part matched from the back, so there can be only one.
"""

import re
from itertools import pairwise
from typing import Final, Literal
from urllib.parse import quote, unquote_to_bytes

from msgspec import Struct

MAX_URI: Final = 64 * 1024
"""Characters of a URI that is looked at."""

Values = dict[str, str | list[str]]
"""What a match gives: text, or a list for ``{/x*}``."""


class Token(Struct, frozen=True):
    """A piece of a template.

    Attributes:
        kind: a ``narrow`` variable never has ``/``, a ``wide`` one may; ``segments`` is wide and split at it.
        text: the literal, or the variable's name.
        symbol: for a ``query`` variable ``?`` or ``&``, for a narrow one the separator in front of it.
    """

    kind: Literal["literal", "narrow", "wide", "segments", "query", "fragment"]
    text: str
    symbol: str = ""


_INVALID: Final = re.compile(r"[\x00-\x20\x7f-\x9f]|%(?![0-9A-Fa-f]{2})")
_ASCII: Final = "".join(map(chr, range(128)))
_UNSAFE: Final = re.compile(r"\x00|(?:\A|[/\\])\.\.(?:[/\\]|\Z)")


class _Unmatched(Exception):  # noqa: N818 - ends a match from inside; never leaves this module
    pass


class Matcher:
    """One template, ready to be matched.

    Args:
        tokens: the template's pieces in order.

    Raises:
        ValueError: the pieces cannot be told apart in a URI; the message says which.
    """

    __slots__ = ("_back", "_forbidden", "_fragment", "_front", "_query", "_query_start", "_skip", "_wide")

    def __init__(self, tokens: list[Token]) -> None:
        head = _merged([one for one in tokens if one.kind not in {"query", "fragment"}])
        tail = [one for one in tokens if one.kind in {"query", "fragment"}]
        _check_order(tokens, tail)
        _check_head(head)
        self._query = frozenset(one.text for one in tail if one.kind == "query")
        self._query_start = tail[0].symbol if self._query else ""
        self._fragment = next((one.text for one in tail if one.kind == "fragment"), None)
        literals = [one.text for one in head if one.kind == "literal"]
        if self._fragment is not None and any("#" in text for text in literals):
            raise ValueError("a literal '#' in front of a fragment variable")
        self._skip = sum(text.count(self._query_start) for text in literals) if self._query else 0
        separators = {one.symbol for one in head if one.symbol in {",", ";"}}
        forbidden = {"/", "?", "#", *separators, *self._query_start}
        self._forbidden = re.compile(f"[{re.escape(''.join(sorted(forbidden)))}]")
        at = next((position for position, one in enumerate(head) if one.kind in {"wide", "segments"}), None)
        self._wide = None if at is None else head[at]
        self._front = head if at is None else head[:at]
        self._back = [] if at is None else head[at + 1 :]

    def match(self, uri: str) -> Values | None:
        """See `UriTemplate.match`."""
        if len(uri) > MAX_URI or _INVALID.search(uri) is not None:
            return None
        values: Values = {}
        try:
            if not uri.isascii():
                uri = quote(uri, safe=_ASCII)
            head = self._take_tail(uri, values)
            self._match_head(head, values)
        except (_Unmatched, UnicodeError):
            return None
        return values

    def _take_tail(self, uri: str, values: Values) -> str:
        """Read fragment and query; gives what is in front of them."""
        if self._fragment is not None:
            uri, sign, fragment = uri.partition("#")
            if sign:
                values[self._fragment] = _decoded(fragment)
        if not self._query:
            return uri
        at = -1
        for _ in range(self._skip + 1):
            at = uri.find(self._query_start, at + 1)
            if at < 0:
                return uri
        query = uri[at + 1 :]
        if query.count("&") >= len(self._query):
            raise _Unmatched
        for pair in query.split("&"):
            name, _, text = pair.partition("=")
            if name not in self._query or name in values:
                raise _Unmatched
            values[name] = _decoded(text)
        return uri[:at]

    def _match_head(self, text: str, values: Values) -> None:
        start, end = 0, len(text)
        if self._wide is None:
            front = self._front
            if len(front) > 1 and front[-1].kind == "literal":
                # The last literal has one place only, so what is in front of it ends there.
                end = _cut_end(text, start, end, front[-1].text)
                front = front[:-1]
            start, open_name = self._from_front(front, text, start, end, values)
            if open_name is not None:
                self._put(values, open_name, text[start:end])
            elif start != end:
                raise _Unmatched
            return
        start, _ = self._from_front(self._front, text, start, end, values)
        end = self._from_back(text, start, end, values)
        found = text[start:end]
        if not found:
            raise _Unmatched
        if self._wide.kind == "wide":
            _keep(values, self._wide.text, _safe(_decoded(found)))
        else:
            _keep(values, self._wide.text, [self._narrow(segment) for segment in found.split("/")])

    def _from_front(
        self, tokens: list[Token], text: str, start: int, end: int, values: Values
    ) -> tuple[int, str | None]:
        """Match from the left; gives the position reached, and the variable that is still open there."""
        open_name: str | None = None
        for token in tokens:
            if token.kind == "narrow":
                open_name = token.text
            elif open_name is None:
                if not text.startswith(token.text, start, end):
                    raise _Unmatched
                start += len(token.text)
            else:
                at = text.find(token.text, start + 1, end)
                if at < 0:
                    raise _Unmatched
                self._put(values, open_name, text[start:at])
                open_name = None
                start = at + len(token.text)
        return start, open_name

    def _from_back(self, text: str, start: int, end: int, values: Values) -> int:
        """Match what follows the wide variable from the right; gives the position where the wide one ends."""
        open_name: str | None = None
        for token in reversed(self._back):
            if token.kind == "narrow":
                open_name = token.text
            elif open_name is None:
                end = _cut_end(text, start, end, token.text)
            else:
                at = text.rfind(token.text, start, max(start, end - 1))
                if at < 0:
                    raise _Unmatched
                self._put(values, open_name, text[at + len(token.text) : end])
                open_name = None
                end = at
        return end

    def _put(self, values: Values, name: str, text: str) -> None:
        _keep(values, name, self._narrow(text))

    def _narrow(self, text: str) -> str:
        if not text or self._forbidden.search(text) is not None:
            raise _Unmatched
        decoded = _safe(_decoded(text))
        if "/" in decoded:
            raise _Unmatched
        return decoded


def _merged(tokens: list[Token]) -> list[Token]:
    """The tokens, with literals that stand side by side made one."""
    merged: list[Token] = []
    for token in tokens:
        if token.kind == "literal" and merged and merged[-1].kind == "literal":
            merged[-1] = Token("literal", merged[-1].text + token.text)
        else:
            merged.append(token)
    return merged


def _check_order(tokens: list[Token], tail: list[Token]) -> None:
    if tail and tokens[-len(tail) :] != tail:
        raise ValueError(f"something follows the {tail[0].kind} variable {tail[0].text!r}")
    for before, after in pairwise(tail):
        if before.kind == "fragment" or (after.symbol == "?" and before.symbol == "&"):
            raise ValueError(f"{before.text!r} and {after.text!r} stand in an order that no URI has")
    names = [one.text for one in tail]
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise ValueError(f"the variable {repeated!r} is repeated in query or fragment")


def _check_head(head: list[Token]) -> None:
    wide = [one.text for one in head if one.kind in {"wide", "segments"}]
    if len(wide) > 1:
        raise ValueError(f"{wide[0]!r} and {wide[1]!r} both may span '/', so nothing says where one ends")
    for before, after in pairwise(head):
        if before.kind != "literal" and after.kind != "literal":
            raise ValueError(f"nothing stands between {before.text!r} and {after.text!r}")


def _cut_end(text: str, start: int, end: int, literal: str) -> int:
    if not text.endswith(literal, start, end):
        raise _Unmatched
    return end - len(literal)


def _decoded(text: str) -> str:
    return unquote_to_bytes(text).decode() if "%" in text else text


def _safe(value: str) -> str:
    if _UNSAFE.search(value) is not None:
        raise _Unmatched
    return value


def _keep(values: Values, name: str, value: str | list[str]) -> None:
    """Record a value; a name that occurs twice must have the same one."""
    if values.setdefault(name, value) != value:
        raise _Unmatched
