"""From the arguments of a request to those of a function: the input schema, and what each value becomes."""

from collections.abc import Mapping
from typing import Any

import msgspec

from erlmcp.catalog._errors import ToolError
from erlmcp.catalog._functions import Function
from erlmcp.catalog._hints import Shapes, described
from erlmcp.catalog._records import with_default
from erlmcp.catalog._shape import Convert, Shape

#: what conversions raise for values that the schema admits and the type does not, such as February 30
CONVERSION_ERRORS = (ValueError, TypeError, LookupError, ArithmeticError, msgspec.ValidationError)


class Converters:
    """What is to be done to some arguments by name; false where nothing is."""

    __slots__ = ("_converts",)

    def __init__(self, converts: Mapping[str, Convert]) -> None:
        self._converts = dict(converts)

    def __bool__(self) -> bool:
        return bool(self._converts)

    def apply(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """New arguments, converted.

        Raises:
            ToolError: a value that the type does not have.
        """
        found = dict(arguments)
        for name, convert in self._converts.items():
            if name in found:
                try:
                    found[name] = convert(found[name])
                except CONVERSION_ERRORS as error:
                    raise ToolError(f"{name}: {_first_line(error)}") from None
        return found


def _first_line(error: BaseException) -> str:
    lines = str(error).splitlines()
    return lines[0][:400] if lines else type(error).__name__


NOT_CONVERTED = Converters({})


def input_shape(function: Function) -> tuple[dict[str, Any], Converters]:
    """The input schema of a function's parameters, and what is to be done to its arguments.

    Raises:
        InexpressibleHint: a parameter has a type that no JSON Schema expresses.
    """
    shapes = Shapes(closed=True)
    properties: dict[str, Any] = {}
    converts: dict[str, Convert] = {}
    for parameter in function.parameters:
        shape = parameter_shape(shapes, function, parameter.name)
        properties[parameter.name] = (
            shape.schema if parameter.required else with_default(shape.schema, parameter.default)
        )
        if shape.convert is not None:
            converts[parameter.name] = shape.convert
    schema: dict[str, Any] = {"type": "object"}
    if properties:
        schema["properties"] = properties
    required = [parameter.name for parameter in function.parameters if parameter.required]
    if required:
        schema["required"] = required
    schema["additionalProperties"] = False
    return shapes.finish(schema), Converters(converts)


def parameter_shape(shapes: Shapes, function: Function, name: str) -> Shape:
    """The shape of one parameter, described by the docstring where its hint says nothing."""
    parameter = next(one for one in function.parameters if one.name == name)
    shape = shapes.shape(parameter.hint, function.where(name))
    return described(shape, parameter.description)
