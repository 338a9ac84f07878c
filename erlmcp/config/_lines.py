"""On which line each key of a TOML text is. `tomllib` reads the values and forgets the places.

It is only given texts that `tomllib` has accepted, so it looks for structure and never for mistakes.
"""

import re

Path = tuple[str | int, ...]

_SIMPLE = r"""[A-Za-z0-9_-]+|"(?:\\.|[^"\\\n])*"|'[^'\n]*'"""
_KEY = rf"(?:{_SIMPLE})(?:[ \t]*\.[ \t]*(?:{_SIMPLE}))*"
_PART = re.compile(_SIMPLE)
_BLANK = re.compile(r"(?:\s+|#[^\n]*)*")
_HEADER = re.compile(rf"(\[\[?)[ \t]*({_KEY})[ \t]*\]\]?")
_ASSIGNMENT = re.compile(rf"({_KEY})[ \t]*=")
_TOKEN = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}|'
    r"'''.*?'{3,5}|"
    r'"(?:\\.|[^"\\\n])*"|'
    r"'[^'\n]*'|#[^\n]*|\n|[\[{]|[\]}]|[^\"'#\n\[\]{}]+",
    re.DOTALL,
)


def locate(text: str) -> dict[Path, int]:
    """The line, from 1, of each key and table header.

    Keys inside of inline tables are not found; the key that the inline table belongs to is.

    Args:
        text: TOML that `tomllib` accepts.

    Returns:
        path -> line; a table in an array of tables has its index (from 0) in the path.
    """
    lines: dict[Path, int] = {}
    counts: dict[Path, int] = {}
    table: Path = ()
    position = 0
    while True:
        position = _end(_BLANK, text, position)
        line = text.count("\n", 0, position) + 1
        if match := _HEADER.match(text, position):
            table = _enter(_parts(match[2]), match[1] == "[[", counts)
            if match[1] == "[[":
                lines.setdefault(table[:-1], line)
            lines.setdefault(table, line)
            position = match.end()
        elif match := _ASSIGNMENT.match(text, position):
            lines.setdefault((*table, *_parts(match[1])), line)
            position = _after_value(text, match.end())
        else:
            return lines


def _end(pattern: re.Pattern[str], text: str, position: int) -> int:
    match = pattern.match(text, position)
    return match.end() if match else position


def _parts(key: str) -> Path:
    return tuple(part[1:-1] if part[0] in "\"'" else part for part in _PART.findall(key))


def _enter(key: Path, array: bool, counts: dict[Path, int]) -> Path:
    """The path of the table that a header opens, with the indices of the arrays on the way."""
    path: Path = ()
    for position, part in enumerate(key):
        path = (*path, part)
        if array and position == len(key) - 1:
            counts[path] = counts.get(path, 0) + 1
        if path in counts:
            path = (*path, counts[path] - 1)
    return path


def _after_value(text: str, position: int) -> int:
    depth = 0
    while match := _TOKEN.match(text, position):
        found = match[0]
        position = match.end()
        if found in ("[", "{"):
            depth += 1
        elif found in ("]", "}"):
            depth -= 1
        elif found == "\n" and not depth:
            break
    return position
