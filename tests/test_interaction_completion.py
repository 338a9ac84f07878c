"""server/utilities/completion."""

import json
from typing import Any

import msgspec

from erlmcp.catalog import Catalog
from erlmcp.testing import permissive_gates
from tests.interaction.cases import Interaction, everywhere, holds
from tests.interaction.clients import Sent, World
from tests.interaction.stage import SECRET
from tests.test_interaction_tools import HidesSome

REVIEW = {"type": "ref/prompt", "name": "review"}
PROFILE = {"type": "ref/resource", "uri": "user://{name}/profile"}


@everywhere
class Completion(Interaction):
    def complete(self, ref: Any, argument: Any, *, valid: bool = True, **more: Any) -> Sent:
        params = {"ref": ref, "argument": argument, **more}
        sent: Sent = self.client.request("completion/complete", params, valid=valid)
        return sent

    @holds("server.utilities.completion/capability.1")
    def test_suggestions(self) -> None:
        self.assertIn("completions", self.client.request("server/discover").result["capabilities"])
        found = self.complete(REVIEW, {"name": "language", "value": "p"}).result["completion"]
        self.assertEqual(found, {"values": ["perl", "php", "python"], "total": 3, "hasMore": False})
        found = self.complete(PROFILE, {"name": "name", "value": "a"}).result["completion"]
        self.assertEqual((len(found["values"]), found["total"], found["hasMore"]), (100, 150, True))
        self.assertEqual(found["values"][:2], ["a0", "a1"])

    @holds("server.utilities.completion/errors.2", "server.utilities.completion/errors.3")
    def test_errors(self) -> None:
        argument = {"name": "language", "value": "p"}
        for ref in (
            {"type": "ref/prompt", "name": "unknown"},
            {"type": "ref/resource", "uri": "no://{where}"},
        ):
            self.refused(self.complete(ref, argument), -32602, 200)
        for params in (
            {}, {"ref": REVIEW}, {"argument": argument}, {"ref": {"type": "ref/prompt"}, "argument": argument},
            {"ref": REVIEW, "argument": {}}, {"ref": REVIEW, "argument": {"name": "language"}},
        ):  # fmt: skip
            self.assertEqual(
                self.client.request("completion/complete", params, valid=False).code, -32602, params
            )

    @holds("server.utilities.completion/errors.4")
    def test_internal_errors(self) -> None:
        sent = self.complete(REVIEW, {"name": "language", "value": "fail"})
        self.assertEqual(sent.code, -32603)
        self.assertNotIn(SECRET, json.dumps(sent.error))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    @holds("server.utilities.completion/inputs.1", "server.utilities.completion/security.1")
    def test_inputs_are_validated(self) -> None:
        for ref, argument, more in (
            ({"type": "ref/tool", "name": "echo"}, {"name": "text", "value": ""}, {}),
            (5, {"name": "a", "value": ""}, {}),
            ({"type": "ref/prompt", "name": 5}, {"name": "a", "value": ""}, {}),
            (REVIEW, {"name": 5, "value": ""}, {}),
            (REVIEW, {"name": "language", "value": 5}, {}),
            (REVIEW, "language", {}),
            (REVIEW, {"name": "language", "value": ""}, {"context": 5}),
            (REVIEW, {"name": "language", "value": ""}, {"context": {"arguments": {"code": 5}}}),
        ):
            self.assertEqual(
                self.complete(ref, argument, valid=False, **more).code, -32602, (ref, argument, more)
            )
        nothing = self.complete(REVIEW, {"name": "no such argument", "value": ""}).result["completion"]
        self.assertEqual(nothing["values"], [])

    @holds("server.utilities.completion/security.3", "server.utilities.completion/security.4")
    def test_forbidden_and_unknown_look_the_same(self) -> None:
        gates = msgspec.structs.replace(
            permissive_gates(Catalog([self.stage.provider])), authorize=HidesSome()
        )
        self.world = World(self.stage.provider, gates=gates)
        self.client = self.connect()
        forbidden = self.complete(PROFILE, {"name": "name", "value": "a"})
        unknown = self.complete(
            {"type": "ref/resource", "uri": "no://{where}"}, {"name": "name", "value": "a"}
        )
        self.assertEqual(forbidden.code, unknown.code)
        self.assertEqual(
            forbidden.error["message"].replace(PROFILE["uri"], "no://{where}"), unknown.error["message"]
        )
