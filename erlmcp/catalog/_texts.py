"""Texts from outside, in prompt arguments and URI variables, as values of the types that an author asked for."""

import json
import re
from collections.abc import Callable
from typing import Any

from erlmcp.catalog._arguments import CONVERSION_ERRORS, parameter_shape
from erlmcp.catalog._errors import InexpressibleHint
from erlmcp.catalog._functions import Function, Parameter
from erlmcp.catalog._hints import Shapes
from erlmcp.catalog._schemas import CompiledSchema

_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?")
_SCALARS = ("string", "integer", "number", "boolean", "null")


class TextArgument:
    """Reads one argument.

    Args:
        function: whose argument.
        parameter: which.

    Raises:
        InexpressibleHint: its type cannot be written as one text.
    """

    __slots__ = ("_compiled", "_convert", "_types", "description", "name", "required", "title")

    def __init__(self, function: Function, parameter: Parameter) -> None:
        shapes = Shapes(closed=True)
        shape = parameter_shape(shapes, function, parameter.name)
        self.name = parameter.name
        self.required = parameter.required
        self.description: str | None = shape.schema.get("description")
        self.title: str | None = shape.schema.get("title")
        self._types = _types(shape.schema) or ["string"]
        strange = [kind for kind in self._types if kind not in _SCALARS and kind != "array"]
        if strange:
            raise InexpressibleHint(
                f"{function.where(parameter.name)}: it comes as a text;"
                " use str, int, float, bool, a date, Literal, Enum or list[str]"
            )
        self._compiled = CompiledSchema(shapes.finish(shape.schema), formats=True)
        self._convert: Callable[[Any], Any] | None = shape.convert

    def read(self, text: str | list[str]) -> Any:
        """The value of a text (or of a list of texts, which an exploded URI variable is).

        Raises:
            ValueError: it is none of this type; the message says why.
        """
        reason = "it has another form"
        for candidate in _candidates(text, self._types):
            problem = self._compiled.problem(candidate)
            if problem is None:
                try:
                    return candidate if self._convert is None else self._convert(candidate)
                except CONVERSION_ERRORS as error:
                    reason = str(error)
            else:
                reason = problem
        raise ValueError(f"{self.name}: {reason}")


def _types(schema: dict[str, Any]) -> list[str]:
    if "anyOf" in schema:
        return [kind for branch in schema["anyOf"] for kind in _types(branch) or ["string"]]
    if "type" in schema:
        return [schema["type"]]
    if "enum" in schema:
        return list(_SCALARS)
    return ["object"] if "$ref" in schema else []


def _candidates(text: str | list[str], types: list[str]) -> list[Any]:
    """The values that a text may stand for, those of narrower types first."""
    if isinstance(text, list):
        return [text]
    found: list[Any] = []
    if {"integer", "number"} & set(types) and _NUMBER.fullmatch(text):
        found.append(json.loads(text))
    if "boolean" in types and text in ("true", "false"):
        found.append(text == "true")
    if "null" in types and text == "null":
        found.append(None)
    if "array" in types:
        found.append([text])
    if "string" in types or not found:
        found.insert(0 if types[0] == "string" else len(found), text)
    return found
