"""The table of requirements is whole: no id without a test, no test without an id, no page without its reason."""

import importlib
from collections import Counter
from unittest import TestCase

from erlmcp.catalog._schemas import DIALECTS
from tests.daemon import ROOT
from tests.interaction import document, published
from tests.interaction.cases import CLAIMS
from tests.interaction.model import LEVELS
from tests.interaction.requirements import OUT_OF_SCOPE, TABLE
from tests.skips import need


def missing_test(name: str) -> str | None:
    """Why this is not the full name of a test that trial runs; None if it is."""
    module_name, _, rest = name.rpartition(".")
    module_name, _, class_name = module_name.rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except ImportError:
        return f"{name}: there is no module {module_name}"
    case = getattr(module, class_name, None)
    if not (isinstance(case, type) and issubclass(case, TestCase)):
        return f"{name}: {class_name} is no test case of {module_name}"
    if not rest.startswith("test") or not callable(getattr(case, rest, None)):
        return f"{name}: {class_name} has no test {rest}"
    return None


class Table(TestCase):
    """Both directions."""

    @classmethod
    def setUpClass(cls) -> None:
        document.load()

    def test_ids_are_unique(self) -> None:
        twice = [one for one, times in Counter(row.id for row in TABLE).items() if times > 1]
        self.assertEqual(twice, [])

    def test_rows_are_complete(self) -> None:
        for row in TABLE:
            self.assertIn(row.level, LEVELS, row.id)
            self.assertTrue(row.says.endswith((".", ").")), row.id)
            self.assertEqual(bool(row.by), row.held == "elsewhere", row.id)
            self.assertEqual(bool(row.why), row.held not in {"tested", "elsewhere"}, row.id)
            self.assertNotIn(row.page, OUT_OF_SCOPE, row.id)

    def test_no_id_without_a_test(self) -> None:
        unheld = [row.id for row in TABLE if row.held == "tested" and not CLAIMS.get(row.id)]
        self.assertEqual(unheld, [], "the table calls these tested, and no test claims them")

    def test_no_test_without_an_id(self) -> None:
        tested = {row.id for row in TABLE if row.held == "tested"}
        self.assertEqual(
            sorted(set(CLAIMS) - tested), [], "tests claim these, and the table does not call them tested"
        )

    def test_tests_that_are_named_exist(self) -> None:
        names = {name for row in TABLE for name in row.by} | {
            name for names in CLAIMS.values() for name in names
        }
        self.assertGreater(len(names), 100)
        self.assertEqual([problem for name in sorted(names) if (problem := missing_test(name))], [])

    def test_can_fail(self) -> None:
        self.assertIn("no module", str(missing_test("tests.test_nowhere.Case.test_it")))
        self.assertIn("no test case", str(missing_test("tests.test_interaction_table.Nobody.test_it")))
        self.assertIn("has no test", str(missing_test("tests.test_interaction_table.Table.test_nothing")))


class Document(TestCase):
    """What is written down for readers."""

    def test_the_page_is_current(self) -> None:
        document.load()
        self.assertEqual(
            document.PAGE.read_text() if document.PAGE.exists() else "",
            document.render(),
            "run `python -m tests.interaction.document`",
        )

    def test_names_the_dialects(self) -> None:
        text = (ROOT / "docs" / "reference" / "authoring.md").read_text()
        for dialect in DIALECTS.values():
            self.assertIn(dialect, text)

    def test_describes_the_tcp_transport(self) -> None:
        text = (ROOT / "docs" / "reference" / "lines.md").read_text()
        for subject in ("connection", "framing", "cancellation"):
            self.assertIn(f"\n| {subject} |", text)


class Published(TestCase):
    """The schema that every message of the interaction tests is validated by."""

    def setUp(self) -> None:
        need(
            published.available(),
            "the JSON Schema of 2026-07-28 is not in ../shared/schema: messages are not validated",
        )

    def test_it_finds_what_is_wrong(self) -> None:
        response = {"jsonrpc": "2.0", "id": 1, "result": {"resultType": "complete", "content": []}}
        self.assertIsNone(published.received_problem(response, "tools/call"))
        self.assertIn(
            "CallToolResult",
            str(published.received_problem({**response, "result": {"resultType": "complete"}}, "tools/call")),
        )
        self.assertIn(
            "JSONRPC", str(published.received_problem({**response, "jsonrpc": "1.0"}, "tools/call"))
        )
        self.assertIsNotNone(
            published.sent_problem({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {}})
        )
        self.assertIsNotNone(published.sent_problem({"jsonrpc": "2.0", "id": None, "method": "x"}))
        bad = {"jsonrpc": "2.0", "method": "notifications/progress", "params": {}}
        self.assertIn("Progress", str(published.received_problem(bad, None)))
