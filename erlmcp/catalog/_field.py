"""What an author says about one parameter or field beyond its type, and how that changes a JSON Schema."""

import sys
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from erlmcp.catalog._errors import InexpressibleHint

#: constraint -> (JSON Schema keyword, JSON types that it constrains)
_NUMBERS = ("number", "integer")
_KEYWORDS: dict[str, tuple[tuple[str, tuple[str, ...]], ...]] = {
    "ge": (("minimum", _NUMBERS),),
    "gt": (("exclusiveMinimum", _NUMBERS),),
    "le": (("maximum", _NUMBERS),),
    "lt": (("exclusiveMaximum", _NUMBERS),),
    "multiple_of": (("multipleOf", _NUMBERS),),
    "min_length": (("minLength", ("string",)), ("minItems", ("array",)), ("minProperties", ("object",))),
    "max_length": (("maxLength", ("string",)), ("maxItems", ("array",)), ("maxProperties", ("object",))),
    "pattern": (("pattern", ("string",)),),
}
#: strings whose text is not what the author's code sees: lengths and patterns would mean something else
_CODED = ("contentEncoding", "format")


class Field:
    """Describes and constrains a parameter or a field: ``Annotated[int, Field(ge=0, description="how many")]``.

    Args:
        description: what it is, for the model and its user.
        title: a name to display.
        ge: the least value.
        gt: a bound that the value lies above.
        le: the greatest value.
        lt: a bound that the value lies below.
        multiple_of: what the value is a multiple of.
        min_length: the least number of characters, items or entries.
        max_length: the greatest number of characters, items or entries.
        pattern: a regular expression that some part of the string matches (anchor it to match the whole).
        examples: sample values.
        header: the name under which HTTP clients mirror the argument, as ``Mcp-Param-{header}``
            (revision 2026-07-28, server/tools, x-mcp-header). Strings, integers and booleans only, never secrets.
    """

    __slots__ = (
        "description",
        "examples",
        "ge",
        "gt",
        "header",
        "le",
        "lt",
        "max_length",
        "min_length",
        "multiple_of",
        "pattern",
        "title",
    )

    def __init__(
        self,
        *,
        description: str | None = None,
        title: str | None = None,
        ge: float | None = None,
        gt: float | None = None,
        le: float | None = None,
        lt: float | None = None,
        multiple_of: float | None = None,
        min_length: int | None = None,
        max_length: int | None = None,
        pattern: str | None = None,
        examples: Sequence[Any] | None = None,
        header: str | None = None,
    ) -> None:
        self.description = description
        self.title = title
        self.ge = ge
        self.gt = gt
        self.le = le
        self.lt = lt
        self.multiple_of = multiple_of
        self.min_length = min_length
        self.max_length = max_length
        self.pattern = pattern
        self.examples = examples
        self.header = header


def is_pydantic_field(value: object) -> bool:
    """Whether this is pydantic's FieldInfo; pydantic is never imported to find out."""
    module = sys.modules.get("pydantic.fields")
    return module is not None and isinstance(value, module.FieldInfo)


def _from_pydantic(info: Any, where: str) -> Iterable[Field]:
    yield Field(description=info.description, title=info.title, examples=info.examples)
    for item in info.metadata:
        yield from read_metadata(item, where)


def _from_msgspec(meta: msgspec.Meta) -> Field:
    return Field(
        description=meta.description,
        title=meta.title,
        ge=meta.ge,
        gt=meta.gt,
        le=meta.le,
        lt=meta.lt,
        multiple_of=meta.multiple_of,
        min_length=meta.min_length,
        max_length=meta.max_length,
        pattern=meta.pattern,
        examples=meta.examples,
    )


def read_metadata(item: object, where: str) -> Iterable[Field]:
    """What one piece of ``Annotated`` metadata says. Pieces that mean nothing to us say nothing.

    Raises:
        InexpressibleHint: the piece restricts values in a way that JSON Schema cannot say.
    """
    if isinstance(item, Field):
        yield item
    elif isinstance(item, msgspec.Meta):
        yield _from_msgspec(item)
    elif is_pydantic_field(item):
        yield from _from_pydantic(item, where)
    elif type(item).__module__ == "annotated_types":
        name = type(item).__name__
        if name in {"Predicate", "Timezone"}:
            raise InexpressibleHint(
                f"{where}: JSON Schema cannot say annotated_types.{name}; check it in the function"
            )
        found = {key: getattr(item, key) for key in _KEYWORDS if getattr(item, key, None) is not None}
        yield Field(**found)
    elif type(item).__name__ == "_PydanticGeneralMetadata":
        yield Field(**{key: value for key, value in vars(item).items() if key in _KEYWORDS})


def _places(schema: dict[str, Any], types: tuple[str, ...]) -> list[dict[str, Any]]:
    """The schemas under `schema` that a constraint on `types` belongs to: itself, or branches of its union."""
    if "anyOf" in schema:
        return [place for branch in schema["anyOf"] for place in _places(branch, types)]
    if schema.get("type") in types and not (schema["type"] == "string" and any(k in schema for k in _CODED)):
        return [schema]
    return []


def describe(schema: dict[str, Any], field: Field, where: str) -> None:
    """Write what `field` says into `schema`, which belongs to the caller.

    Raises:
        InexpressibleHint: a constraint does not fit the type.
    """
    for key, keywords in _KEYWORDS.items():
        value = getattr(field, key)
        if value is None:
            continue
        fitting = [(word, place) for word, types in keywords for place in _places(schema, types)]
        if not fitting:
            kinds = " or ".join(kind for _, types in keywords for kind in types)
            raise InexpressibleHint(f"{where}: {key}={value!r} needs a plain {kinds} type")
        for word, place in fitting:
            place[word] = value
    for key in ("title", "description"):
        if (text := getattr(field, key)) is not None:
            schema[key] = text
    if field.examples is not None:
        schema["examples"] = list(field.examples)
    if field.header is not None:
        schema["x-mcp-header"] = field.header
        if schema.get("type") == "integer":
            # revision 2026-07-28, server/tools, x-mcp-header: integers stay within what a double holds exactly
            schema.setdefault("minimum", -(2**53) + 1)
            schema.setdefault("maximum", 2**53 - 1)
