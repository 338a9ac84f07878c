"""A JSON Schema together with the way from a value that it admits to the value that a handler gets."""

from collections.abc import Callable
from typing import Any, Protocol

Convert = Callable[[Any], Any]


class Shape:
    """A schema, and how a value that it admits becomes what the handler gets (None: as it is)."""

    __slots__ = ("convert", "schema")

    def __init__(self, schema: dict[str, Any], convert: Convert | None = None) -> None:
        self.schema = schema
        self.convert = convert


class ReadsHints(Protocol):
    """What gives hints their shapes; a class with fields asks for those of its fields.

    Attributes:
        closed: whether objects with known fields refuse others.
    """

    closed: bool

    def shape(self, hint: Any, where: str) -> Shape:
        """The shape of one hint; `where` names it in errors."""

    def row(self, hints: list[tuple[Any, bool]], make: Convert, where: str) -> Shape:
        """The shape of an array with one hint, and whether it is required, for each place."""
