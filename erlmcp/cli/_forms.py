"""A server's questions, asked in a terminal: forms field by field, URLs whole and with consent."""

import json
import webbrowser
from collections.abc import Callable
from typing import Any

from erlmcp.client import CANCEL, DECLINE, Elicitation, accept

Ask = Callable[[str], str]
Tell = Callable[[str], None]

_TRUE = frozenset({"y", "yes", "true", "1"})
_FALSE = frozenset({"n", "no", "false", "0"})
_TRIES = 5


class Terminal:
    """Answers elicitations by asking a person.

    Args:
        ask: shows a prompt and returns a line; raises EOFError when there is nobody any more.
        tell: shows a line.
        visit: opens a URL, once the person has agreed to it.
    """

    def __init__(self, ask: Ask, tell: Tell, visit: Callable[[str], object] = webbrowser.open) -> None:
        self._ask = ask
        self._tell = tell
        self._visit = visit

    def answer(self, question: Elicitation) -> dict[str, Any]:
        """Ask it; what `erlmcp.client.Answers` takes for ``elicit``."""
        try:
            self._tell(f"\nThe server asks: {printable(question.message)}")
            if question.url is not None:
                return self._answer_url(question.url)
            return self._answer_form(question.schema or {})
        except EOFError:
            self._tell("")
            return CANCEL

    def _answer_url(self, url: str) -> dict[str, Any]:
        # Client/elicitation, "URL Mode": the whole URL, consent, and nothing is fetched before.
        self._tell("It wants you to visit this address, which may see who you are:")
        self._tell(f"  {printable(url)}")
        if not url.lower().startswith(("https://", "http://localhost", "http://127.0.0.1", "http://[::1]")):
            self._tell("It is not https: what you enter there may be read on the way.")
        if self._choice("Open it? [y/N/c] ") != "yes":
            return DECLINE
        self._visit(url)
        return accept()

    def _answer_form(self, schema: dict[str, Any]) -> dict[str, Any]:
        properties = schema.get("properties")
        fields = properties if isinstance(properties, dict) else {}
        required = schema.get("required") or []
        content: dict[str, Any] = {}
        for name, field in fields.items():
            value = self._field(name, field if isinstance(field, dict) else {}, required=name in required)
            if value is not None:
                content[name] = value
        choice = self._choice("Send it? [Y/n/c] " if fields else "Agree? [Y/n/c] ", default="yes")
        return {"yes": accept(content), "no": DECLINE}.get(choice, CANCEL)

    def _choice(self, prompt: str, default: str = "no") -> str:
        said = self._ask(prompt).strip().lower()
        if not said:
            return default
        return "yes" if said in _TRUE else "no" if said in _FALSE else "cancel"

    def _field(self, name: str, field: dict[str, Any], *, required: bool) -> Any:
        title = printable(str(field.get("title") or name))
        if field.get("description"):
            self._tell(f"  {printable(str(field['description']))}")
        choices = _choices(field)
        for number, (value, label) in enumerate(choices, 1):
            self._tell(
                f"    {number}. {printable(label)}" + ("" if label == value else f" ({printable(value)})")
            )
        default = field.get("default")
        hint = f" [{json.dumps(default)}]" if default is not None else "" if required else " (may be empty)"
        for _ in range(_TRIES):
            said = self._ask(f"  {title}{hint}: ").strip()
            if not said and (default is not None or not required):
                return default
            try:
                return _value(said, field, choices)
            except ValueError as error:
                self._tell(f"    {error}")
        raise EOFError


def _choices(field: dict[str, Any]) -> list[tuple[str, str]]:
    """The values that an enumeration allows, each with its label (2025-11-25, client/elicitation)."""
    items = field.get("items")
    source = items if field.get("type") == "array" and isinstance(items, dict) else field
    titled = source.get("oneOf") or source.get("anyOf")
    if isinstance(titled, list):
        return [(str(one.get("const")), str(one.get("title", one.get("const")))) for one in titled]
    names = source.get("enumNames") or []
    values = [str(value) for value in source.get("enum") or []]
    return [(value, str(names[at]) if at < len(names) else value) for at, value in enumerate(values)]


def _value(said: str, field: dict[str, Any], choices: list[tuple[str, str]]) -> Any:
    kind = field.get("type", "string")
    if kind == "array":
        return [_chosen(word.strip(), choices) for word in said.split(",") if word.strip()]
    if choices:
        return _chosen(said, choices)
    if kind == "boolean":
        if said.lower() in _TRUE | _FALSE:
            return said.lower() in _TRUE
        raise ValueError("say yes or no")
    if kind in {"integer", "number"}:
        try:
            return int(said) if kind == "integer" else float(said)
        except ValueError:
            raise ValueError(f"{said!r} is no {kind}") from None
    if not said:
        raise ValueError("it must not be empty")
    return said


def _chosen(said: str, choices: list[tuple[str, str]]) -> str:
    values = [value for value, _ in choices]
    if said in values:
        return said
    if said.isdigit() and 1 <= int(said) <= len(values):
        return values[int(said) - 1]
    raise ValueError(f"{said!r} is none of the choices: say one of the numbers 1 to {len(values)}")


def printable(text: str) -> str:
    """A server's text, without what would move the cursor or hide something."""
    return "".join(one if one.isprintable() or one in "\n\t" else "\N{REPLACEMENT CHARACTER}" for one in text)
