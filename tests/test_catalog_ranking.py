"""Ranking documents for a few words: what counts, what is bounded, and that documents come and go one by one."""

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.catalog import _ranking
from erlmcp.catalog._ranking import Ranking, words

WORDS = st.sampled_from(["file", "read", "write", "git", "commit", "mail", "send", "of"])
TEXTS = st.lists(WORDS, max_size=6).map(" ".join)
CHANGES = st.lists(st.tuples(st.sampled_from("abcdef"), st.none() | TEXTS), max_size=30)


def ranking(**documents: str) -> Ranking:
    made = Ranking()
    for name, text in documents.items():
        assert made.put(name, [(1.0, text)])
    return made


class Words(SynchronousTestCase):
    def test_taken_apart(self) -> None:
        for text, found in (
            ("files.read_text", ["file", "read", "text"]),
            ("readFile", ["read", "file", "readfile"]),
            ("HTTPServer", ["http", "server", "httpserver"]),
            ("Größe, 12 Äpfel!", ["grösse", "12", "äpfel"]),
            ("as glass buses gas", ["as", "glass", "buse", "gas"]),
            ("", []),
            ("-- _ --", []),
        ):
            self.assertEqual(list(words(text)), found, text)

    def test_long_words_are_cut(self) -> None:
        self.assertEqual(list(words("x" * 1000)), ["x" * 40])


class Best(SynchronousTestCase):
    def test_order(self) -> None:
        """Rare words say more than common ones, names more than descriptions, short texts more than long."""
        made = Ranking()
        made.put("rare", [(1.0, "tool that compiles")])
        made.put("named", [(3.0, "compile"), (1.0, "tool")])
        made.put("long", [(1.0, "tool that compiles " + "and much else " * 20)])
        made.put("other", [(1.0, "tool for mail")])
        self.assertEqual(made.best("compile", 10), ["named", "rare", "long"])
        self.assertEqual(made.best("tool mail", 1), ["other"])

    def test_equals_in_the_order_of_names(self) -> None:
        self.assertEqual(ranking(b="x1", a="x1", c="x1").best("x1", 2), ["a", "b"])

    def test_plural_and_case(self) -> None:
        self.assertEqual(ranking(a="Lists FILES").best("file", 5), ["a"])
        self.assertEqual(ranking(a="a file").best("Files", 5), ["a"])

    def test_beginning(self) -> None:
        """A word that nobody has stands for those that begin with it, unless it is very short."""
        made = ranking(a="authentication", b="authority", c="author auth")
        self.assertEqual(made.best("authen", 5), ["a"])
        self.assertEqual(sorted(made.best("autho", 5)), ["b", "c"])
        self.assertEqual(made.best("auth", 5), ["c"])
        self.assertEqual(made.best("au", 5), [])

    def test_nothing(self) -> None:
        self.assertEqual(Ranking().best("x", 5), [])
        self.assertEqual(ranking(a="x").best("", 5), [])
        self.assertEqual(ranking(a="").best("x", 5), [])

    def test_shown_only(self) -> None:
        """It is asked of the best until there are enough."""
        asked: list[str] = []

        def shows(name: str) -> bool:
            asked.append(name)
            return name != "a"

        self.assertEqual(ranking(a="x1", b="x1", c="x1").best("x1", 1, shows), ["b"])
        self.assertEqual(asked, ["a", "b"])

    def test_replaced_and_dropped(self) -> None:
        made = ranking(a="mail", b="file")
        made.put("a", [(1.0, "file")])
        self.assertEqual((made.best("mail", 5), made.best("file", 5)), ([], ["a", "b"]))
        made.drop("a")
        made.drop("a")
        self.assertEqual((made.best("file", 5), len(made), "a" in made, "b" in made), (["b"], 1, False, True))

    def test_same_as_made_at_once(self) -> None:
        """Whatever has come and gone, what is found is as if only what is left had ever been there."""

        @given(CHANGES, TEXTS)
        @settings(deadline=None)
        def check(changes: list[tuple[str, str | None]], query: str) -> None:
            grown = Ranking()
            left: dict[str, str] = {}
            for name, text in changes:
                if text is None:
                    grown.drop(name)
                    left.pop(name, None)
                else:
                    grown.put(name, [(1.0, text)])
                    left[name] = text
            fresh = ranking(**left)
            self.assertEqual(grown.best(query, 10), fresh.best(query, 10))
            self.assertEqual(grown._vocabulary, sorted(fresh._postings))
            self.assertEqual(set(grown._postings), set(fresh._postings))
            self.assertEqual(len(grown), len(left))

        check()


class Bounds(SynchronousTestCase):
    def test_documents(self) -> None:
        self.patch(_ranking, "MOST_DOCUMENTS", 2)
        made = ranking(a="x1", b="x1")
        self.assertFalse(made.put("c", [(1.0, "x1")]))
        self.assertTrue(made.put("b", [(1.0, "x2")]))
        self.assertEqual(made.best("x1", 5), ["a"])

    def test_text(self) -> None:
        self.patch(_ranking, "MOST_CHARACTERS", 10)
        made = Ranking()
        made.put("a", [(1.0, "one two"), (1.0, "six seven"), (1.0, "eight")])
        self.assertEqual(
            [len(made.best(word, 5)) for word in ("one", "two", "six", "seven", "eight")], [1, 1, 1, 0, 0]
        )

    def test_query(self) -> None:
        self.patch(_ranking, "MOST_TERMS", 2)
        self.assertEqual(ranking(a="one", b="two", c="three").best("one one two three", 5), ["a", "b"])

    def test_visits(self) -> None:
        """The rarest word is always looked at; common ones as far as the bound allows."""
        self.patch(_ranking, "MOST_VISITS", 2)
        made = ranking(a="common rare", b="common", c="common")
        self.assertEqual(made.best("common rare", 5), ["a"])
        self.assertEqual(made.best("common", 5), ["b", "c", "a"])
