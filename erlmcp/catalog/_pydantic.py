"""pydantic, where the author uses it: found in `sys.modules`, never imported by us."""

import sys
from collections.abc import Callable, Iterable
from typing import Any

from erlmcp.catalog._field import is_pydantic_field


class Unknown(Exception):  # noqa: N818 - private: "pydantic does not know this type"
    """pydantic has no schema for the hint."""


def loaded() -> bool:
    """Whether the author's code has imported pydantic."""
    return "pydantic" in sys.modules


def claims(hint: Any) -> bool:
    """Whether the hint is a pydantic model or dataclass."""
    return loaded() and isinstance(hint, type) and hasattr(hint, "__pydantic_validator__")


def insists(metadata: Iterable[object]) -> bool:
    """Whether ``Annotated`` metadata holds what only pydantic understands, such as a validator."""
    return loaded() and any(
        type(item).__module__.startswith("pydantic")
        and not is_pydantic_field(item)
        and type(item).__name__ != "_PydanticGeneralMetadata"
        for item in metadata
    )


def shape(hint: Any, mode: str) -> tuple[dict[str, Any], dict[str, dict[str, Any]], Callable[[Any], Any]]:
    """The schema, its definitions, and what makes the value.

    Args:
        hint: what pydantic shall express.
        mode: ``validation`` for what comes in, ``serialization`` for what goes out.

    Raises:
        Unknown: pydantic cannot express it either.
    """
    pydantic = sys.modules["pydantic"]
    try:
        adapter = pydantic.TypeAdapter(hint)
        body = adapter.json_schema(mode=mode, by_alias=True)
    except (pydantic.errors.PydanticUserError, TypeError) as error:
        raise Unknown(str(error)) from None
    return body, body.pop("$defs", {}), adapter.validate_python


def dump(value: Any) -> Any:
    """A model as JSON values; TypeError if it is none."""
    if hasattr(type(value), "__pydantic_serializer__"):
        return type(value).__pydantic_serializer__.to_python(value, mode="json", by_alias=True)
    raise TypeError(f"a {type(value).__qualname__} cannot be sent as JSON")
