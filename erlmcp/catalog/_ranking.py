"""Ranking documents by how well they match a few words (Okapi BM25). Pure; documents come and go one by one."""

import math
import re
from bisect import bisect_left, insort
from collections.abc import Callable, Iterator, Sequence
from heapq import heapify, heappop
from typing import Final

_WORD: Final = re.compile(r"[^\W_]+")
# Where a word of two begins: readFile, HTTPServer, utf8Text.
_HUMP: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")

SATURATION: Final = 1.2
"""How soon further occurrences of a word in one document count for little (BM25's k1)."""
LENGTH: Final = 0.75
"""How much long documents are held to have their words by chance (BM25's b)."""

MOST_DOCUMENTS: Final = 50_000
MOST_CHARACTERS: Final = 16 * 1024
"""Of one document's texts together; what comes after them is not looked at."""
MOST_TERMS: Final = 16
"""Different words of a query; what comes after them is not looked at."""
MOST_VISITS: Final = 30_000
"""Of documents, for the words of a query together. The rarest word comes first, and is always looked at."""
_SHORTEST_PLURAL: Final = 4
_LONGEST_WORD: Final = 40
_SHORTEST_BEGINNING: Final = 3
_MOST_ENDINGS: Final = 16

Fields = Sequence[tuple[float, str]]


def words(text: str) -> Iterator[str]:
    """The words of a text, as they are compared: in lower case, compounds also taken apart, plurals as singulars.

    >>> list(words("readFile_contents of HTTPServers"))
    ['read', 'file', 'readfile', 'content', 'of', 'http', 'server', 'httpserver']
    """
    for whole in _WORD.findall(text):
        parts = _HUMP.split(whole)
        for part in parts:
            yield _plain(part)
        if len(parts) > 1:
            yield _plain(whole)


def _plain(word: str) -> str:
    word = word[:_LONGEST_WORD].casefold()
    if len(word) >= _SHORTEST_PLURAL and word.endswith("s") and not word.endswith("ss"):
        return word[:-1]
    return word


class Ranking:
    """Documents by name, and which of them say most about a query.

    At most 50 000 documents, of which 16 KiB each are looked at; a query costs at most 50 000 looks.
    """

    __slots__ = ("_lengths", "_postings", "_terms", "_total", "_vocabulary")

    def __init__(self) -> None:
        self._postings: dict[str, dict[str, float]] = {}
        self._terms: dict[str, tuple[str, ...]] = {}
        self._lengths: dict[str, float] = {}
        self._total = 0.0
        self._vocabulary: list[str] = []  # the words, sorted

    def __len__(self) -> int:
        return len(self._lengths)

    def __contains__(self, name: object) -> bool:
        return name in self._lengths

    def put(self, name: str, fields: Fields) -> bool:
        """Add a document, or replace the one of this name.

        Args:
            name: what it is found as.
            fields: its texts, each with how much a word in it counts; 1 is the usual.

        Returns:
            Whether there was room for it.
        """
        self.drop(name)
        if len(self._lengths) >= MOST_DOCUMENTS:
            return False
        counted: dict[str, float] = {}
        left = MOST_CHARACTERS
        for weight, text in fields:
            for word in words(text[:left]):
                counted[word] = counted.get(word, 0.0) + weight
            left = max(0, left - len(text))
        for word, count in counted.items():
            documents = self._postings.get(word)
            if documents is None:
                documents = self._postings[word] = {}
                insort(self._vocabulary, word)
            documents[name] = count
        length = sum(counted.values())
        self._terms[name] = tuple(counted)
        self._lengths[name] = length
        self._total += length
        return True

    def drop(self, name: str) -> None:
        """Remove a document, if it is there."""
        if name not in self._lengths:
            return
        self._total -= self._lengths.pop(name)
        for word in self._terms.pop(name):
            documents = self._postings[word]
            del documents[name]
            if not documents:
                del self._postings[word]
                del self._vocabulary[bisect_left(self._vocabulary, word)]

    def best(self, query: str, most: int, shows: Callable[[str], bool] | None = None) -> list[str]:
        """The names of the documents that match best, the best first; equals in the order of their names.

        Args:
            query: words, in any order. One that no document has stands for those that begin with it.
            most: how many names are wanted.
            shows: which names may be found; asked of as few as possible. None for all.
        """
        scores = self._scores(self._asked(query))
        # Most are never looked at: a heap is made in less time than a sorted list.
        heap = [(-score, name) for name, score in scores.items()]
        heapify(heap)
        found: list[str] = []
        while heap and len(found) < most:
            _, name = heappop(heap)
            if shows is None or shows(name):
                found.append(name)
        return found

    def _asked(self, query: str) -> dict[str, float]:
        """The words to look for, with how much each counts."""
        asked: dict[str, float] = {}
        for number, word in enumerate(dict.fromkeys(words(query[:MOST_CHARACTERS]))):
            if number >= MOST_TERMS:
                break
            if word in self._postings:
                asked[word] = 1.0
            elif len(word) >= _SHORTEST_BEGINNING:
                for longer in self._beginning_with(word):
                    asked.setdefault(longer, 0.5)
        return asked

    def _beginning_with(self, word: str) -> list[str]:
        place = bisect_left(self._vocabulary, word)
        return [one for one in self._vocabulary[place : place + _MOST_ENDINGS] if one.startswith(word)]

    def _scores(self, asked: dict[str, float]) -> dict[str, float]:
        scores: dict[str, float] = {}
        if not self._lengths:
            return scores
        usual = self._total / len(self._lengths) or 1.0
        left = MOST_VISITS
        for word in sorted(asked, key=lambda one: (len(self._postings[one]), one)):
            documents = self._postings[word]
            if scores and left < len(documents):
                break
            left -= len(documents)
            rarity = math.log(1 + (len(self._lengths) - len(documents) + 0.5) / (len(documents) + 0.5))
            worth = asked[word] * rarity * (SATURATION + 1)
            for name, count in documents.items():
                damped = SATURATION * (1 - LENGTH + LENGTH * self._lengths[name] / usual)
                scores[name] = scores.get(name, 0.0) + worth * count / (count + damped)
        return scores
