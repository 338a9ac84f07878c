"""An author's function, read: its parameters, where its Context goes, what it returns, what its docstring says."""

import inspect
import re
import typing
from collections.abc import Callable
from typing import Any

import msgspec

from erlmcp.catalog._context import Context
from erlmcp.catalog._errors import InexpressibleHint
from erlmcp.catalog._field import Field, is_pydantic_field

_SECTION = re.compile(
    r"(Args|Arguments|Parameters|Returns?|Raises|Yields?|Examples?|Notes?|Attributes|Warnings?|References|Todo"
    r"|See Also):\s*$"
)
_ENTRY = re.compile(r"\*{0,2}(\w+)\s*(?:\([^)]*\))?:\s*(.*)$")


class Parameter(msgspec.Struct, frozen=True):
    """One parameter that a client fills.

    Attributes:
        name: its name.
        hint: its type, `Any` where there is none.
        required: whether it has no default.
        default: the default, if there is one.
        description: what the docstring says of it.
    """

    name: str
    hint: Any
    required: bool
    default: Any
    description: str


class Function(msgspec.Struct, frozen=True):
    """A function that answers requests.

    Attributes:
        call: the function.
        label: how errors name it, such as ``tool 'add'``.
        name: its own name.
        description: its docstring without the part on arguments.
        parameters: what clients fill, in order.
        context: the name of the parameter that takes the `Context`, None for none.
        returns: the return hint, `inspect.Signature.empty` where there is none.
        coroutine: whether it is an ``async def``; else it runs in a thread.
    """

    call: Callable[..., Any]
    label: str
    name: str
    description: str
    parameters: tuple[Parameter, ...]
    context: str | None
    returns: Any
    coroutine: bool

    def where(self, parameter: str) -> str:
        """How errors name one of its parameters."""
        return f"{self.label}, parameter {parameter!r}"


def read(call: Callable[..., Any], kind: str, name: str | None, *, free: bool = False) -> Function:
    """Read a function.

    Args:
        call: a function, a method, or an object with ``__call__``.
        kind: ``tool``, ``resource``, ``prompt`` or ``completion``; for errors.
        name: the name that it is registered under, None for its own.
        free: whether ``**arguments`` is allowed (a tool with a schema of its own).

    Raises:
        TypeError: it cannot answer requests: what it is, and what would do.
        InexpressibleHint: a name in its hints cannot be resolved.
    """
    if not callable(call):
        raise TypeError(f"a {kind} is a function, not {call!r}")
    own = getattr(call, "__name__", None) or type(call).__name__
    if own == "<lambda>" and name is None:
        raise TypeError(f"a {kind} made of a lambda needs name=…")
    label = f"{kind} {name or own!r}"
    body = call if inspect.isroutine(call) else getattr(call, "func", None) or type(call).__call__
    inner = inspect.unwrap(body)
    if inspect.isgeneratorfunction(inner) or inspect.isasyncgenfunction(inner):
        raise TypeError(
            f"{label} is a generator; write it as `async def` that returns its result"
            " (Deferreds may be awaited in it, progress goes through Context.report_progress)"
        )
    try:
        hints = typing.get_type_hints(inner, include_extras=True)
    except NameError as error:
        raise InexpressibleHint(
            f"{label}: the name {error.name!r} in its type hints cannot be resolved; define it at module level"
        ) from None
    description, about = split_docstring(inspect.getdoc(inner) or "")
    parameters, context = _parameters(inspect.signature(call), hints, about, label, free=free)
    return Function(
        call=call,
        label=label,
        name=name or own,
        description=description,
        parameters=parameters,
        context=context,
        returns=hints.get("return", inspect.Signature.empty),
        coroutine=inspect.iscoroutinefunction(body),
    )


def _parameters(
    signature: inspect.Signature, hints: dict[str, Any], about: dict[str, str], label: str, *, free: bool
) -> tuple[tuple[Parameter, ...], str | None]:
    found: list[Parameter] = []
    context: str | None = None
    for parameter in signature.parameters.values():
        where = f"{label}, parameter {parameter.name!r}"
        if parameter.kind is parameter.VAR_KEYWORD and free:
            continue
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise TypeError(
                f"{where}: clients send named arguments; name each of them instead of {parameter}"
            )
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise TypeError(f"{where} is positional-only; clients send named arguments, so remove the '/'")
        hint = hints.get(parameter.name, Any)
        if is_context(hint):
            if context is not None:
                raise TypeError(f"{where}: there is a Context already, {context!r}")
            context = parameter.name
            continue
        if isinstance(parameter.default, Field) or is_pydantic_field(parameter.default):
            raise TypeError(
                f"{where}: a Field is no default; write Annotated[{_name(hint)}, Field(…)] and the default after `=`"
            )
        required = parameter.default is parameter.empty
        default = None if required else parameter.default
        found.append(Parameter(parameter.name, hint, required, default, about.get(parameter.name, "")))
    return tuple(found), context


def is_context(hint: Any) -> bool:
    """Whether the hint is `Context`, also as ``Context | None``."""
    if hint is Context:
        return True
    return bool(typing.get_args(hint)) and Context in typing.get_args(hint)


def _name(hint: Any) -> str:
    return getattr(hint, "__name__", None) or str(hint)


def split_docstring(text: str) -> tuple[str, dict[str, str]]:
    """The docstring without its ``Args:`` section, and what that says of each argument (Google style)."""
    kept: list[str] = []
    about: dict[str, str] = {}
    inside = False
    current, first = "", 0
    for line in text.splitlines():
        section = _SECTION.match(line)
        if section is not None:
            inside = section[1] in ("Args", "Arguments", "Parameters")
            current = ""
            if inside:
                continue
        if not inside:
            kept.append(line)
            continue
        if line and not line[0].isspace():
            inside = False
            kept.append(line)
            continue
        stripped = line.strip()
        indent = len(line) - len(line.lstrip())
        entry = _ENTRY.match(stripped)
        if entry is not None and (not current or indent <= first):
            current, first = entry[1], indent
            about[current] = entry[2]
        elif current and stripped:
            about[current] = f"{about[current]} {stripped}".strip()
    return re.sub(r"\n{3,}", "\n\n", "\n".join(kept)).strip(), about
