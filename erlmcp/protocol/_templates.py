"""URI templates (RFC 6570): parsing, expansion on all four levels, and matching where values can be told back.

Matching itself is in `_matching`.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import quote

from msgspec import Struct

from erlmcp.protocol._matching import Matcher, Token

MAX_TEMPLATE: Final = 4096
"""Characters of one template."""
MAX_VARIABLES: Final = 64
"""Variables of one template."""

Value = str | int | float | bool | Sequence[str] | Mapping[str, str] | None
"""What a variable may be: text, a number, a list, an associative array, or None for undefined."""


class Operator(Struct, frozen=True):
    """How an expression is written out (RFC 6570, appendix A).

    Attributes:
        first: what begins it; separator: what stands between variables.
        named: whether names are written.
        if_empty: what follows the name of an empty value.
        reserved: whether reserved characters and percent-encoded triplets pass as they are.
    """

    first: str
    separator: str
    named: bool = False
    if_empty: str = ""
    reserved: bool = False


class Variable(Struct, frozen=True):
    """One variable of an expression, with its modifier: `prefix` characters (0: all), or `explode`."""

    name: str
    prefix: int = 0
    explode: bool = False


class Expression(Struct, frozen=True):
    """What stands between braces; `operator` is its character, empty for none."""

    operator: str
    variables: tuple[Variable, ...]


OPERATORS: Final = {
    "": Operator("", ","),
    "+": Operator("", ",", reserved=True),
    ".": Operator(".", "."),
    "/": Operator("/", "/"),
    ";": Operator(";", ";", named=True),
    "?": Operator("?", "&", named=True, if_empty="="),
    "&": Operator("&", "&", named=True, if_empty="="),
    "#": Operator("#", ",", reserved=True),
}

_VARCHAR: Final = r"(?:[A-Za-z0-9_]|%[0-9A-Fa-f]{2})"
_VARIABLE: Final = re.compile(rf"({_VARCHAR}+(?:\.{_VARCHAR}+)*)(?::([1-9][0-9]{{0,3}})|(\*))?")
_PARTS: Final = re.compile(r"\{([^{}]*)\}|([^{}]+)|(.)", re.DOTALL)
_BAD_LITERAL: Final = re.compile(r"[\x00-\x20\"<>\\^`|\x7f]|%(?![0-9A-Fa-f]{2})")
_RESERVED: Final = ":/?#[]@!$&'()*+,;="
_TRIPLET_OR_CHARACTER: Final = re.compile(r"%[0-9A-Fa-f]{2}|.", re.DOTALL)


class UriTemplate:
    """A URI template.

    Attributes:
        template: the text.
        names: the variables' names in order, each once.
        unmatchable: why `match` cannot be used, None if it can.

    Raises:
        ValueError: no template by RFC 6570, or one over 4096 characters or 64 variables.
    """

    __slots__ = ("_matcher", "_parts", "names", "template", "unmatchable")

    def __init__(self, template: str) -> None:
        if len(template) > MAX_TEMPLATE:
            raise ValueError(f"a URI template has at most {MAX_TEMPLATE} characters, not {len(template)}")
        self.template = template
        self._parts = _parse(template)
        variables = [
            one.name for part in self._parts if isinstance(part, Expression) for one in part.variables
        ]
        if len(variables) > MAX_VARIABLES:
            raise ValueError(f"a URI template has at most {MAX_VARIABLES} variables, not {len(variables)}")
        self.names = tuple(dict.fromkeys(variables))
        self.unmatchable: str | None = None
        self._matcher: Matcher | None = None
        try:
            self._matcher = Matcher(_tokens(self._parts))
        except ValueError as problem:
            self.unmatchable = str(problem)

    def __repr__(self) -> str:
        return f"UriTemplate({self.template!r})"

    def expand(self, values: Mapping[str, Value]) -> str:
        """Write the URI for these values; a variable that is not among them is undefined.

        Raises:
            ValueError: a prefix of a list or associative array, which RFC 6570 (2.4.1) does not define.
        """
        return "".join(
            _encode(part, reserved=True) if isinstance(part, str) else _expand(part, values)
            for part in self._parts
        )

    def match(self, uri: str) -> dict[str, str | list[str]] | None:
        """The values that expand to this URI, percent-decoded, or None.

        Time is linear in the URI's length; one over 64 Ki characters matches nothing.

        - ``{x}``, ``{.x}``, ``{/x}`` and ``{;x}`` stand for one or more characters without ``/``, ``?``, ``#``,
          and without a percent-encoded ``/``; where several splits are possible, the first is the shortest.
        - ``{+x}`` and ``{/x*}`` (a list) may span ``/``; a template has one of them at most.
        - ``{?x,y}`` and ``{&x,y}`` stand at the end; their parameters may come in any order and be absent,
          but others, or one twice, do not match. ``{#x}`` is the very end, and may be absent.
        - Outside of query and fragment a value with a segment ``..`` or a NUL does not match, so that what a
          template's author joins to a path stays below it.

        Raises:
            ValueError: the template cannot be matched (see `unmatchable`).
        """
        if self._matcher is None:
            raise ValueError(f"{self.template!r} cannot be matched: {self.unmatchable}")
        return self._matcher.match(uri)


def _parse(template: str) -> tuple[str | Expression, ...]:
    parts: list[str | Expression] = []
    for found in _PARTS.finditer(template):
        expression, literal, stray = found.groups()
        if stray is not None:
            raise ValueError(f"unbalanced {stray!r} at position {found.start()} of URI template {template!r}")
        if literal is None:
            parts.append(_parse_expression(expression, found.start(), template))
            continue
        bad = _BAD_LITERAL.search(literal)
        if bad is not None:
            position = found.start() + bad.start()
            raise ValueError(
                f"{bad.group()!r} at position {position} of URI template {template!r} must be encoded"
            )
        parts.append(literal)
    return tuple(parts)


def _parse_expression(text: str, position: int, template: str) -> Expression:
    operator = text[:1] if text[:1] in "+#./;?&=,!@|" else ""
    if operator not in OPERATORS:
        raise ValueError(
            f"operator {operator!r} at position {position} of URI template {template!r} is reserved"
        )
    variables = []
    for spec in text[len(operator) :].split(","):
        found = _VARIABLE.fullmatch(spec)
        if found is None:
            raise ValueError(f"{spec!r} at position {position} of URI template {template!r} is no variable")
        name, prefix, explode = found.groups()
        variables.append(Variable(name, int(prefix or 0), explode is not None))
    return Expression(operator, tuple(variables))


def _expand(expression: Expression, values: Mapping[str, Value]) -> str:
    operator = OPERATORS[expression.operator]
    written = [
        text
        for variable in expression.variables
        if (text := _expand_variable(variable, operator, values.get(variable.name))) is not None
    ]
    return operator.first + operator.separator.join(written) if written else ""


def _expand_variable(variable: Variable, operator: Operator, value: Value) -> str | None:
    """The text of one variable; None if it is undefined."""
    if value is None:
        return None
    if isinstance(value, Mapping):
        pairs = [(str(key), str(item)) for key, item in value.items()]
        return _expand_pairs(variable, operator, pairs) if pairs else None
    if isinstance(value, Sequence) and not isinstance(value, str):
        items = [str(item) for item in value]
        return _expand_list(variable, operator, items) if items else None
    text = ("true" if value else "false") if isinstance(value, bool) else str(value)
    return _named(
        variable.name, operator, _encode(_cut(text, variable.prefix, operator.reserved), operator.reserved)
    )


def _expand_list(variable: Variable, operator: Operator, items: list[str]) -> str:
    _refuse_prefix(variable)
    encoded = [_encode(item, operator.reserved) for item in items]
    if not variable.explode:
        return _named(variable.name, operator, ",".join(encoded))
    return operator.separator.join(_named(variable.name, operator, item) for item in encoded)


def _expand_pairs(variable: Variable, operator: Operator, pairs: list[tuple[str, str]]) -> str:
    _refuse_prefix(variable)
    encoded = [(_encode(key, operator.reserved), _encode(item, operator.reserved)) for key, item in pairs]
    if not variable.explode:
        return _named(variable.name, operator, ",".join(f"{key},{item}" for key, item in encoded))
    if operator.named:
        return operator.separator.join(_named(key, operator, item) for key, item in encoded)
    return operator.separator.join(f"{key}={item}" for key, item in encoded)


def _refuse_prefix(variable: Variable) -> None:
    if variable.prefix:
        raise ValueError(f"{variable.name}:{variable.prefix} needs text; lists and arrays have no prefix")


def _named(name: str, operator: Operator, text: str) -> str:
    if not operator.named:
        return text
    return f"{name}={text}" if text else name + operator.if_empty


def _cut(text: str, prefix: int, reserved: bool) -> str:
    if not prefix:
        return text
    if reserved:
        return "".join(_TRIPLET_OR_CHARACTER.findall(text)[:prefix])
    return text[:prefix]


def _encode(text: str, reserved: bool) -> str:
    if not reserved:
        return quote(text, safe="")
    return "".join(
        piece if len(piece) == 3 and piece[0] == "%" else quote(piece, safe=_RESERVED)
        for piece in _TRIPLET_OR_CHARACTER.findall(text)
    )


def _tokens(parts: tuple[str | Expression, ...]) -> list[Token]:
    """The template's pieces for matching. ValueError for what expansion loses."""
    tokens: list[Token] = []
    for part in parts:
        if isinstance(part, str):
            tokens.append(Token("literal", _encode(part, reserved=True)))
            continue
        if part.operator == "#" and len(part.variables) > 1:
            raise ValueError("a fragment with several variables cannot be told apart")
        for position, variable in enumerate(part.variables):
            tokens += _variable_tokens(part.operator, variable, first=position == 0)
    return tokens


def _variable_tokens(symbol: str, variable: Variable, *, first: bool) -> list[Token]:
    name = variable.name
    if variable.prefix:
        raise ValueError(f"the prefix {name}:{variable.prefix} does not tell the whole value")
    if variable.explode and symbol != "/":
        raise ValueError(f"{name}* can be matched as {{/{name}*}} only")
    if symbol in {"?", "&"}:
        return [Token("query", name, symbol if first else "&")]
    if symbol == "#":
        return [Token("fragment", name)]
    operator = OPERATORS[symbol]
    lead = operator.first if first else operator.separator
    separator = lead
    if operator.named:
        lead += f"{name}="
    tokens = [Token("literal", lead)] if lead else []
    if variable.explode:
        return [*tokens, Token("segments", name)]
    return [*tokens, Token("wide" if operator.reserved else "narrow", name, separator)]
