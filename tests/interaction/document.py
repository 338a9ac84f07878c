"""Writes ``docs/reference/requirements.md`` from the table: ``python -m tests.interaction.document``.

With ``--check`` it writes nothing, and exits with 1 if the page is not what it would write.
"""

import importlib
import sys
from collections import Counter
from itertools import groupby
from pathlib import Path

from tests.interaction.cases import CLAIMS
from tests.interaction.model import Requirement
from tests.interaction.requirements import CLIENT_SIDE, OUT_OF_SCOPE, REVISION, TABLE

TESTS = Path(__file__).resolve().parent.parent
PAGE = TESTS.parent / "docs" / "reference" / "requirements.md"
SITE = f"https://modelcontextprotocol.io/specification/{REVISION}"
WORDS = {
    "tested": "held by tests that claim it",
    "elsewhere": "held by tests of another subject",
    "author": "binds who writes the provider, or runs the daemon",
    "not-served": "about something that this server does not do",
    "otherwise": "deliberately not followed",
    "later": "open",
}


def load() -> None:
    """Import all interaction tests, so that their claims are known."""
    for path in sorted(TESTS.glob("test_interaction_*.py")):
        importlib.import_module(f"tests.{path.stem}")


def render() -> str:
    """The page."""
    counts: Counter[str] = Counter(one.held for one in TABLE)
    lines = [
        "# What the specification demands of a server",
        "",
        f"Each MUST, MUST NOT, SHOULD and SHOULD NOT of MCP {REVISION} that binds a server, in our words, and how it",
        "is held. Tests run over an exchange in memory, over lines and over HTTP; every message that they send and",
        "receive is validated by the published JSON Schema, where that is there.",
        "`python -m tests.interaction.document` writes this page, and a test compares.",
        "",
        "| | requirements |",
        "| --- | --- |",
        *(f"| {held}: {words} | {counts[held]} |" for held, words in WORDS.items()),
        "",
        CLIENT_SIDE,
        "",
        "Pages that are left out:",
        "",
        *(f"- [{page}]({SITE}/{page}): {why}" for page, why in OUT_OF_SCOPE.items()),
        "",
    ]
    for page, rows in groupby(TABLE, key=lambda one: one.page):
        lines += [f"## {page}", "", f"<{SITE}/{page}>", "", "| id | section | level | demand | held |"]
        lines += ["| --- | --- | --- | --- | --- |", *map(_row, rows), ""]
    return "\n".join(lines)


def _row(one: Requirement) -> str:
    name = one.id.partition("/")[2]
    return f"| {name} | {_cell(one.section)} | {one.level} | {_cell(one.says)} | {_cell(_held(one))} |"


def _held(one: Requirement) -> str:
    if one.held == "tested":
        return _names(CLAIMS.get(one.id, ()))
    if one.held == "elsewhere":
        return _names(one.by)
    return f"*{one.held}*: {one.why}"


def _names(names: object) -> str:
    found = sorted(str(name).removeprefix("tests.") for name in names)  # type: ignore[attr-defined]
    return ", ".join(f"`{name}`" for name in found)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main(arguments: list[str]) -> int:
    """Write the page, or compare."""
    load()
    page = render()
    if arguments == ["--check"]:
        return 0 if PAGE.exists() and PAGE.read_text() == page else 1
    PAGE.write_text(page)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
