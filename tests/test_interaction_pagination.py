"""server/utilities/pagination."""

from typing import Any

from erlmcp import Provider
from erlmcp.protocol import KeyRing
from tests.interaction.cases import Interaction, everywhere, holds

LISTS = (
    ("tools/list", "tools"),
    ("resources/list", "resources"),
    ("resources/templates/list", "resourceTemplates"),
    ("prompts/list", "prompts"),
)


async def tool() -> str:
    return ""


def plenty() -> Provider:
    """Seven of each kind."""
    provider = Provider("plenty")

    async def one(x: str) -> str:
        return x

    for number in range(7):
        provider.add_tool(tool, name=f"t{number}")
        provider.add_prompt(tool, name=f"p{number}")
        provider.add_resource(f"r:{number}", tool)
        provider.add_resource(f"r{number}:{{x}}", one)
    return provider


@everywhere
class Pagination(Interaction):
    def setUp(self) -> None:
        super().setUp()
        self.provider = plenty()
        self.again(self.provider, page_size=3)

    def pages(self, method: str, field: str) -> list[list[dict[str, Any]]]:
        """All pages of a list."""
        found: list[list[dict[str, Any]]] = []
        params: dict[str, Any] = {}
        while len(found) < 10:
            result = self.client.request(method, params).result
            found.append(result[field])
            if "nextCursor" not in result:
                return found
            params = {"cursor": result["nextCursor"]}
        raise AssertionError("the list does not end")

    @holds("server.utilities.pagination/cursors.1")
    def test_every_entry_once(self) -> None:
        for method, field in LISTS:
            pages = self.pages(method, field)
            self.assertEqual([len(page) for page in pages], [3, 3, 1])
            entries = [str(entry) for page in pages for entry in page]
            self.assertEqual(len(set(entries)), 7)
            self.assertEqual(self.pages(method, field), pages)

    @holds("server.utilities.pagination/cursors.1")
    def test_cursors_hold_while_the_list_changes(self) -> None:
        first = self.client.request("tools/list").result
        for name in ("t0", "t2", "t4"):
            self.provider.remove_tool(name)
        self.provider.add_tool(tool, name="a")
        params = {"cursor": first["nextCursor"]}
        for _ in range(2):
            second = self.client.request("tools/list", params).result
            self.assertEqual([one["name"] for one in second["tools"]], ["t3", "t5", "t6"])

    @holds("server.utilities.pagination/cursors.2", "server.utilities.pagination/errors.1")
    def test_invalid_cursors(self) -> None:
        good = self.client.request("tools/list").result["nextCursor"]
        other = self.client.request("prompts/list").result["nextCursor"]
        for cursor in (
            "",
            "x",
            "t3",
            good[:-1],
            good + "A",
            good.swapcase(),
            other,
            "A" * 10_000,
            "\u0000",
            "🦊",
        ):
            self.refused(self.client.request("tools/list", {"cursor": cursor}), -32602, 200)
        for cursor in (5, None, [good], {"cursor": good}):
            sent = self.client.request("tools/list", {"cursor": cursor}, valid=False)
            self.assertEqual(sent.code, -32602)
        self.assertEqual(len(self.client.request("tools/list", {"cursor": good}).result["tools"]), 3)

    @holds("server.utilities.pagination/errors.1")
    def test_cursors_of_another_server(self) -> None:
        cursor = self.client.request("tools/list").result["nextCursor"]
        client = self.again(self.provider, page_size=3, key_ring=KeyRing([KeyRing.generate()]))
        self.assertEqual(client.request("tools/list", {"cursor": cursor}).code, -32602)
