"""The files of a configuration, read and merged: the main one, then its drop-ins by name."""

import re
import tomllib
from pathlib import Path as FilePath
from typing import Any

from erlmcp.config._lines import Path, locate
from erlmcp.config._problems import Problem


class Source:
    """One file.

    Args:
        file: its path, as problems name it.
        text: its content.
        table: the content, parsed.
    """

    def __init__(self, file: str, text: str, table: dict[str, Any]) -> None:
        self.file = file
        self.text = text
        self.table = table
        self._lines: dict[Path, int] | None = None

    def line(self, path: Path) -> int:
        """The line of a key, or of what it lies in; 0 for the file as a whole."""
        if self._lines is None:
            self._lines = locate(self.text)
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path, 0)


class Merged:
    """All files as one tree, which remembers where each part came from.

    Attributes:
        table: the tree.
        problems: what is wrong with the files, and what is found out later.
    """

    def __init__(self) -> None:
        self.table: dict[str, Any] = {}
        self.problems: list[Problem] = []
        self._origins: dict[Path, tuple[Source, Path]] = {}

    def problem(self, path: Path, wrong: str, right: str = "") -> None:
        """Note a mistake at a path of the merged tree."""
        file, line = self.place(path)
        self.problems.append(Problem(file=file, line=line, key=spell(path), wrong=wrong, right=right))

    def add(self, source: Source) -> None:
        """Merge a file: tables grow, arrays of tables are appended to, anything else may be set only once."""
        self._merge(self.table, source.table, (), source, ())

    def place(self, path: Path) -> tuple[str, int]:
        """The file and line of a path, or of what it lies in."""
        rest: Path = ()
        while path:
            if path in self._origins:
                source, local = self._origins[path]
                return source.file, source.line((*local, *rest))
            path, rest = path[:-1], (path[-1], *rest)
        return "", 0

    def _merge(
        self, into: dict[str, Any], table: dict[str, Any], path: Path, source: Source, local: Path
    ) -> None:
        for key, value in table.items():
            here, there = (*path, key), (*local, key)
            old: Any = into.get(key)
            if key not in into:
                into[key] = self._copy(value, here, source, there)
            elif isinstance(old, dict) and isinstance(value, dict):
                self._merge(old, value, here, source, there)
            elif _is_array_of_tables(old) and _is_array_of_tables(value):
                for index, item in enumerate(value):
                    old.append(self._copy(item, (*here, len(old)), source, (*there, index)))
            else:
                first, line = self.place(here)
                self.problems.append(
                    Problem(
                        file=source.file,
                        line=source.line(there),
                        key=spell(here),
                        wrong=f"it is set already, in {first}:{line}",
                        right="set it in one of the two files",
                    )
                )

    def _copy(self, value: Any, path: Path, source: Source, local: Path) -> Any:
        self._origins[path] = (source, local)
        if isinstance(value, dict):
            return {key: self._copy(item, (*path, key), source, (*local, key)) for key, item in value.items()}
        if _is_array_of_tables(value):
            return [self._copy(item, (*path, i), source, (*local, i)) for i, item in enumerate(value)]
        return value


def read(file: FilePath) -> Merged:
    """Read a configuration file and its drop-ins, ``NAME.d/*.toml`` beside ``NAME.toml``.

    Mistakes are in the result's `problems`; what could be read is in its tree nevertheless.
    """
    merged = Merged()
    folder = file.with_suffix(".d")
    dropins = sorted(folder.glob("*.toml"), key=lambda entry: entry.name) if folder.is_dir() else []
    for name in (file, *dropins):
        source = _read_one(name, merged.problems)
        if source is not None:
            merged.add(source)
    return merged


def spell(path: Path) -> str:
    """A path as an operator reads it: tables of an array counted from 1."""
    text = ""
    for part in path:
        text += f"[{part + 1}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")


def _read_one(file: FilePath, problems: list[Problem]) -> Source | None:
    name = str(file)
    try:
        text = file.read_text(encoding="utf-8")
        return Source(name, text, tomllib.loads(text))
    except OSError as error:
        problems.append(Problem(file=name, wrong=f"cannot be read: {error.strerror}"))
    except UnicodeDecodeError as error:
        line = file.read_bytes().count(b"\n", 0, error.start) + 1
        problems.append(Problem(file=name, line=line, wrong="is not UTF-8", right="TOML is UTF-8 text"))
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"\s*\(at line (\d+), column (\d+)\)", str(error))
        line = int(found[1]) if found else text.count("\n") + 1
        said = (
            str(error).removesuffix(found[0]) if found else str(error).removesuffix(" (at end of document)")
        )
        at = f" at column {found[2]}" if found else " at the end of the file"
        problems.append(Problem(file=name, line=line, wrong=f"is no TOML: {said}{at}"))
    return None


def _is_array_of_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)
