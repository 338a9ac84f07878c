"""What is wrong with a configuration: all of it, each with its file, line, key and remedy."""

import difflib
from collections.abc import Iterable, Sequence

import msgspec


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """One mistake.

    Attributes:
        file: where it is; empty for what was said on the command line.
        line: counted from 1; 0 where the mistake has no line of its own.
        key: the path to the key, tables of an array counted from 1, such as ``listen[2].endpoint``.
        wrong: what is wrong, as a clause.
        right: what would be right, as a clause; empty where `wrong` says it all.
    """

    file: str = ""
    line: int = 0
    key: str = ""
    wrong: str
    right: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.file and self.line else self.file
        text = ": ".join(part for part in (place, self.key, self.wrong) if part)
        return f"{text}; {self.right}" if self.right else text


class ConfigurationError(Exception):
    """A configuration that cannot be used.

    Attributes:
        problems: every mistake found, in the order of the files.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)


def nearest(word: str, known: Iterable[str]) -> str:
    """A remedy for a word that is not among the known ones: the nearest of them, and all of them."""
    names = sorted(known)
    if not names:
        return "there are none"
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    listed = "known " + ("are " if len(names) > 1 else "is ") + ", ".join(names)
    return f"did you mean {near[0]}? ({listed})" if near else listed
