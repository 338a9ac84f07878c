"""Forged, cut and borrowed tokens against a whole server in memory: session ids, event ids, cursors, ``requestState``.

``python -m tests.forgeries 1000000`` tries a million, and prints how long they took. Each must be refused as such a
token is; nothing else may happen.
"""

import base64
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, cast

import msgspec

from erlmcp.interfaces import Outcome, Request
from erlmcp.protocol import KeyRing, Question
from erlmcp.testing import Harness, MemoryExchange
from erlmcp.testing._gates import Recorder
from tests.scripted import Scripted, text

_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
SURE = Question.elicit_form("Sure?", {"type": "object", "properties": {"sure": {"type": "boolean"}}})


async def _ask(request: Request) -> Outcome:
    return text(str(await request.ask({"sure": SURE})))


class Target:
    """A server, one genuine token of each kind, and the same of another server."""

    def __init__(self) -> None:
        tools: dict[str, Any] = {"ask": _ask, "now": lambda request: text("now")}
        self.house = Harness(Scripted(tools), key_ring=KeyRing([KeyRing.generate()]), page_size=1)
        self.tries: dict[str, Callable[[str], str]] = {
            "session on POST": self.session_on_post,
            "session on GET": self.session_on_get,
            "session on DELETE": self.session_on_delete,
            "session of a response": self.session_of_a_response,
            "event": self.event,
            "cursor": self.cursor,
            "cursor of a session": self.cursor_of_a_session,
            "requestState": self.request_state,
        }
        greeting = self.house.initialize(exchange=MemoryExchange({}))
        [((_, token),)] = greeting.reply_headers
        self.headers = {b"mcp-session-id": token}
        listening = MemoryExchange(self.headers)
        self.house.channel.opened(listening)
        asked = self.house.call("ask", capabilities={"elicitation": {}})
        self.genuine = {
            "session": token.decode(),
            "event": listening.primed[0][0],
            "cursor": self.house.send("tools/list").result["nextCursor"],
            "requestState": asked.result["requestState"],
        }

    def forget(self) -> None:
        """Let go of what the harness remembers for tests, and let time pass: a million would fill the memory."""
        recorder = cast("Recorder", self.house.gates.record)
        for kept in (
            recorder.intents,
            recorder.outcomes,
            self.house.counters.requests,
            self.house.counters.errors,
        ):
            kept.clear()
        self.house.clock.advance(0.05)

    def works(self) -> bool:
        """Whether the genuine tokens are still good: forgeries take nothing from those who did not forge them."""
        listed = self.house.legacy(
            "tools/list", {"cursor": self.genuine["cursor"]}, exchange=MemoryExchange(self.headers)
        )
        answers = {"sure": {"action": "accept", "content": {"sure": True}}}
        params = {"requestState": self.genuine["requestState"], "inputResponses": answers}
        answered = self.house.call("ask", params=params, capabilities={"elicitation": {}})
        return bool(listed.result["tools"]) and "accept" in answered.result["content"][0]["text"]

    def session_on_post(self, token: str) -> str:
        headers = {b"mcp-session-id": token.encode()}
        answer = self.house.legacy("tools/list", exchange=MemoryExchange(headers))
        return f"{answer.status} {answer.error['code']}"

    def session_on_get(self, token: str) -> str:
        exchange = MemoryExchange({b"mcp-session-id": token.encode()})
        self.house.channel.opened(exchange)
        return f"{exchange.status} {exchange.error['code']}"

    def session_on_delete(self, token: str) -> str:
        exchange = MemoryExchange({b"mcp-session-id": token.encode()})
        self.house.channel.deleted(exchange)
        return f"{exchange.status} {exchange.error['code']}"

    def session_of_a_response(self, token: str) -> str:
        exchange = MemoryExchange({b"mcp-session-id": token.encode()})
        message = {"jsonrpc": "2.0", "id": f"{self.genuine['event'].partition('-')[0]}.1", "result": {}}
        self.house.channel.received(msgspec.json.encode(message), exchange)
        return f"{exchange.status} {exchange.error['code']}"

    def event(self, token: str) -> str:
        exchange = MemoryExchange({**self.headers, b"last-event-id": token.encode()})
        self.house.channel.opened(exchange)
        return f"{exchange.status} {exchange.error['code']}"

    def cursor(self, token: str) -> str:
        answer = self.house.send("tools/list", {"cursor": token})
        return f"{answer.status} {answer.error['code']}"

    def cursor_of_a_session(self, token: str) -> str:
        answer = self.house.legacy("tools/list", {"cursor": token}, exchange=MemoryExchange(self.headers))
        return f"{answer.status} {answer.error['code']}"

    def request_state(self, token: str) -> str:
        params = {"requestState": token, "inputResponses": {"sure": {"action": "accept", "content": {}}}}
        answer = self.house.call("ask", params=params, capabilities={"elicitation": {}})
        return f"{answer.status} {answer.error['code']}"


EXPECTED = {
    "session on POST": "404 -32600",
    "session on GET": "404 -32600",
    "session on DELETE": "404 -32600",
    "session of a response": "404 -32600",
    "event": "400 -32600",
    "cursor": "200 -32602",
    "cursor of a session": "200 -32602",
    "requestState": "200 -32602",
}
"""How each is refused: the HTTP status and the code."""


def forged(chance: random.Random, target: Target, foreign: Target, kind: str) -> str:
    """A token that must not be taken for one of a kind: cut, altered, lengthened, another server's, of another kind."""
    own = target.genuine[kind]
    way = chance.randrange(9)
    if way == 0:
        return own[: chance.randrange(len(own))]
    if way == 1:
        return own[chance.randrange(1, len(own)) :]
    if way == 2:
        place = chance.randrange(len(own))
        other = chance.choice(_ALPHABET.replace(own[place], ""))
        return own[:place] + other + own[place + 1 :]
    if way == 3:
        return own + "".join(chance.choices(_ALPHABET, k=chance.randrange(1, 9)))
    if way == 4:
        return foreign.genuine[kind]
    if way == 5:
        return chance.choice([one for name, one in target.genuine.items() if name != kind])
    if way == 6:
        raw = bytearray(base64.urlsafe_b64decode(target.genuine["session"] + "=="))
        raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
        return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
    if way == 7:
        return "".join(chance.choices(_ALPHABET, k=chance.randrange(2000)))
    return "".join(chr(chance.choice((chance.randrange(0x80), chance.randrange(0xD800)))) for _ in range(40))


def attack(number: int, seed: int) -> tuple[Counter[str], list[str], list[float]]:
    """Try `number` forged tokens of all kinds in turn.

    Returns:
        How many of each kind were refused as they must be; what was not; seconds of processor time that each took.
    """
    chance = random.Random(seed)
    target, foreign = Target(), Target()
    refused: Counter[str] = Counter()
    wrong: list[str] = []
    took: list[float] = []
    names = list(target.tries)
    for turn in range(number):
        name = names[turn % len(names)]
        kind = name.partition(" ")[0]
        token = forged(chance, target, foreign, kind)
        if kind == "event" and genuine_event(token, target):
            continue
        if turn % 1000 == 0:
            target.forget()
        begun = time.thread_time()
        try:
            got = target.tries[name](token)
        except Exception as error:
            got = repr(error)
        took.append(time.thread_time() - begun)
        if got == EXPECTED[name]:
            refused[name] += 1
        else:
            wrong.append(f"{name} {token!r}: {got}")
    assert target.works()
    return refused, wrong, took


def genuine_event(token: str, target: Target) -> bool:
    """Whether an event id is one after all: another number of the same stream, or a stream to be begun anew."""
    name = target.genuine["event"].rpartition(".")[0]
    return token.rpartition(".")[0] == name or token.rpartition("-")[2].startswith("get")


def main() -> int:
    """Try as many as asked for, and print the figures."""
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(2**32)
    refused, wrong, took = attack(number, seed)
    took.sort()
    for name, count in refused.items():
        print(f"{count:>9,} refused: {name}")
    print(
        f"{len(took):,} tokens, seed {seed}: {1e6 * sum(took) / len(took):.1f} µs each, 99.9 % within "
        f"{1e6 * took[len(took) * 999 // 1000]:.0f} µs, the slowest {1e3 * took[-1]:.1f} ms; {len(wrong)} not refused"
    )
    for line in wrong[:20]:
        print(line)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
