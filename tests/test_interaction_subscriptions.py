"""basic/patterns/subscriptions."""

from typing import Any

from tests.interaction.cases import Interaction, everywhere, holds
from tests.interaction.clients import PREFIX, Sent
from tests.test_interaction_tools import added

ID = PREFIX + "subscriptionId"
SETTINGS = "config://settings"
PROFILE = "user://ann/profile"


def subscription_id(message: dict[str, Any]) -> Any:
    return message.get("params", message.get("result", {})).get("_meta", {}).get(ID)


@everywhere
class Subscriptions(Interaction):
    def listen(self, id: Any = None, client: Any = None, **wanted: Any) -> Sent:  # noqa: A002
        sent: Sent = (client or self.client).request("subscriptions/listen", {"notifications": wanted}, id=id)
        return sent

    def change_everything(self) -> None:
        provider = self.stage.provider
        provider.add_tool(added)
        provider.remove_prompt("gallery")
        provider.remove_resource("pic://logo")
        provider.notify_updated(SETTINGS)
        provider.notify_updated(PROFILE)
        provider.remove_tool("added")

    @holds("basic.patterns.subscriptions/opening.1")
    def test_only_what_was_asked_for(self) -> None:
        cases: tuple[tuple[dict[str, Any], list[str]], ...] = (
            ({}, []),
            ({"toolsListChanged": True}, ["tools/list_changed"] * 2),
            ({"promptsListChanged": True, "toolsListChanged": False}, ["prompts/list_changed"]),
            ({"resourcesListChanged": True}, ["resources/list_changed"]),
            ({"resourceSubscriptions": [PROFILE]}, ["resources/updated"]),
            ({"resourceSubscriptions": []}, []),
        )
        listening = [
            (self.listen(client=self.client.another(), **wanted), methods) for wanted, methods in cases
        ]
        self.change_everything()
        for sent, methods in listening:
            found = [one["method"].removeprefix("notifications/") for one in sent.messages]
            self.assertEqual(found, ["subscriptions/acknowledged", *methods])

    @holds("basic.patterns.subscriptions/acknowledgment.1", "basic.patterns.subscriptions/acknowledgment.2")
    def test_the_acknowledgment_comes_first_and_tells_what_is_agreed(self) -> None:
        wanted = {
            "toolsListChanged": True,
            "resourcesListChanged": False,
            "resourceSubscriptions": [SETTINGS, PROFILE, "no://such", "user://x/y/z"],
        }
        first = self.listen("one", **wanted)
        second = self.listen("two", promptsListChanged=True)
        self.change_everything()
        for sent, agreed in (
            (first, {"toolsListChanged": True, "resourceSubscriptions": [SETTINGS, PROFILE]}),
            (second, {"promptsListChanged": True}),
        ):
            mine = [one for one in sent.messages if subscription_id(one) == sent.id]
            self.assertEqual(mine[0]["method"], "notifications/subscriptions/acknowledged")
            self.assertEqual(mine[0]["params"]["notifications"], agreed)
            methods = [one["method"] for one in mine]
            self.assertEqual(methods.count("notifications/subscriptions/acknowledged"), 1)
            self.assertGreater(len(methods), 1)

    @holds("basic.patterns.subscriptions/acknowledgment.2", "basic.index/meta.14")
    def test_several_at_once_are_told_apart(self) -> None:
        numbers = [self.listen(number, toolsListChanged=True) for number in (7, "7", "other")]
        self.change_everything()
        for sent in numbers:
            mine = [one for one in sent.messages if subscription_id(one) == sent.id]
            self.assertEqual(len([one for one in mine if one["method"].endswith("tools/list_changed")]), 2)
        if not self.client.on_http:
            self.assertNotIn(None, [subscription_id(one) for one in self.client.inbox])

    @holds("basic.patterns.subscriptions/opening.1")
    def test_malformed_filters(self) -> None:
        for wanted in (5, None, [], {"toolsListChanged": 1}, {"resourceSubscriptions": "config://settings"},
                       {"resourceSubscriptions": [5]}):  # fmt: skip
            sent = self.client.request("subscriptions/listen", {"notifications": wanted}, valid=False)
            self.assertEqual(sent.code, -32602, wanted)
        self.assertEqual(self.client.request("subscriptions/listen", {}, valid=False).code, -32602)
        too_many = [f"user://{number}/profile" for number in range(1001)]
        self.assertEqual(self.listen(resourceSubscriptions=too_many).code, -32602)
        self.change_everything()
        self.assertEqual([one for one in self.client.inbox if "method" in one], [])

    @holds("basic.patterns.subscriptions/ending.1", "basic.patterns.subscriptions/closure.1")
    def test_a_graceful_end(self) -> None:
        sent = self.listen("s", toolsListChanged=True)
        self.world.house.server.drain()
        self.assertEqual(sent.result["resultType"], "complete")
        self.assertEqual(sent.result["_meta"][ID], "s")
        self.assertEqual(set(sent.result) - {"resultType", "_meta"}, set())
        self.assertIs(sent.messages[-1], sent.response)
        self.assertEqual(self.world.house.server.in_flight, 0)
        before = len(sent.messages)
        self.change_everything()
        self.assertEqual(len(sent.messages), before)

    @holds("basic.patterns.subscriptions/opening.1", "basic.patterns.cancellation/behaviour.2")
    def test_ended_by_the_client(self) -> None:
        sent = self.listen("s", toolsListChanged=True)
        other = self.listen("o", client=self.client.another(), toolsListChanged=True)
        self.client.give_up(sent)
        before = len(sent.messages)
        self.change_everything()
        self.assertEqual(len(sent.messages), before)
        self.assertEqual(len(other.noted("tools/list_changed")), 2)
        self.assertEqual(len(self.world.house.server.subscriptions), 1)

    @holds("basic.index/stateless.1")
    def test_nothing_is_held_over_a_reconnection(self) -> None:
        self.listen("s", toolsListChanged=True)
        self.client.leave()
        self.assertEqual(len(self.world.house.server.subscriptions), 0)
        again = self.client.another()
        again.call("echo", {"text": "a"})
        self.change_everything()
        again.pump()
        self.assertEqual([one for one in again.inbox if "method" in one], [])
