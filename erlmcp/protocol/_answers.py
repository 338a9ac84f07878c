"""Whether a client's answer is one to the question that was put (basic/patterns/mrtr, "Error Handling")."""

from typing import Any, Final, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

_Object = dict[str, Any]


class _Elicited(Struct):
    action: Literal["accept", "decline", "cancel"]
    content: dict[str, str | int | float | bool | list[str]] | UnsetType = UNSET


class _Text(Struct, tag_field="type", tag="text"):
    text: str


class _Image(Struct, tag_field="type", tag="image"):
    data: str
    mime_type: str = msgspec.field(name="mimeType")


class _Audio(Struct, tag_field="type", tag="audio"):
    data: str
    mime_type: str = msgspec.field(name="mimeType")


class _ToolUse(Struct, tag_field="type", tag="tool_use"):
    id: str
    name: str
    input: _Object


class _ToolResult(Struct, tag_field="type", tag="tool_result"):
    tool_use_id: str = msgspec.field(name="toolUseId")
    content: list[_Object]
    is_error: bool | UnsetType = msgspec.field(name="isError", default=UNSET)


_Block = _Text | _Image | _Audio | _ToolUse | _ToolResult


class _BlockMessage(Struct):
    role: Literal["user", "assistant"]
    model: str
    content: _Block
    stop_reason: str | UnsetType = msgspec.field(name="stopReason", default=UNSET)


class _BlocksMessage(Struct):
    role: Literal["user", "assistant"]
    model: str
    content: list[_Block]
    stop_reason: str | UnsetType = msgspec.field(name="stopReason", default=UNSET)


class _Root(Struct):
    uri: str
    name: str | UnsetType = UNSET


class _Roots(Struct):
    roots: list[_Root]


def check_answer(question: dict[str, Any], answer: Any) -> str | None:
    """Compare an answer with its question: its structure, and a form's content with the requested schema.

    Args:
        question: the request object, as `Question` builds them.
        answer: the client's result, decoded.

    Returns:
        None if it fits, else one sentence that says where and why not.
    """
    if not isinstance(answer, dict):
        return "an answer is an object"
    method = question["method"]
    if method == "elicitation/create":
        return _check_elicited(question["params"], answer)
    if method == "sampling/createMessage":
        several = isinstance(answer.get("content"), list)
        return _structure_problem(answer, _BlocksMessage if several else _BlockMessage)
    if method == "roots/list":
        return _check_roots(answer)
    return f"{method!r} is no question that a client can be asked"


def _check_elicited(params: dict[str, Any], answer: dict[str, Any]) -> str | None:
    problem = _structure_problem(answer, _Elicited)
    if problem is not None or answer["action"] != "accept" or params.get("mode", "form") != "form":
        return problem
    if "content" not in answer:
        return "an accepted form has its content"
    return _validate(params["requestedSchema"], answer["content"])


def _check_roots(answer: dict[str, Any]) -> str | None:
    problem = _structure_problem(answer, _Roots)
    if problem is not None:
        return problem
    for position, root in enumerate(answer["roots"]):
        if not root["uri"].startswith("file://"):
            return f"$.roots[{position}].uri must begin with file:// (client/roots)"
    return None


def _structure_problem(answer: dict[str, Any], shape: type[Struct]) -> str | None:
    try:
        msgspec.convert(answer, shape)
    except msgspec.ValidationError as problem:
        return str(problem)
    return None


_CACHED_COUNT: Final = 256
_CACHED_SIZE: Final = 16 * 1024
_validators: Final[dict[bytes, Any]] = {}


def _validate(schema: dict[str, Any], content: Any) -> str | None:
    # Imported when a form is answered: it takes part of the start-up time, and pulls in the email package.
    import jsonschema_rs

    try:
        validator = _validator_for(schema)
    except (ValueError, jsonschema_rs.ReferencingError) as problem:
        return f"the form's own schema is unusable: {_first_line(problem)}"
    for error in validator.iter_errors(content):
        path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.instance_path)
        return f"$.content{path}: {_first_line(error.message)}"
    return None


def _validator_for(schema: dict[str, Any]) -> Any:
    """Compile a schema, or find it compiled: the last 256 different ones of up to 16 KiB are remembered."""
    key = msgspec.json.encode(schema)
    validator = _validators.get(key)
    if validator is None:
        import jsonschema_rs

        validator = jsonschema_rs.validator_for(schema, offline=True, validate_formats=True)
        if len(key) <= _CACHED_SIZE:
            if len(_validators) >= _CACHED_COUNT:
                del _validators[next(iter(_validators))]
            _validators[key] = validator
    return validator


def _first_line(problem: object) -> str:
    text = str(problem).partition("\n")[0]
    return text if len(text) <= 300 else f"{text[:300]}…"
