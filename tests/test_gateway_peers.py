"""The official SDK on both sides of the gateway, in real processes: its clients (2.x in both modes, 1.x), its servers.

What its clients see through the gateway is what they see of the server itself (`tests.test_peer_sdk`). Clients of the
handshake era in front of a stdio upstream of that era are in `tests.test_gateway_matrix`: there each session has a child
of its own, and a list that one of them changes in its child is not the list that the gateway shows.
"""

import functools
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar
from unittest import TestCase

from twisted.internet import reactor
from twisted.trial.unittest import TestCase as TrialCase

from erlmcp.client import Answers, Client, Elicitation, accept, http
from tests import test_client_peers as servers
from tests import test_peer_sdk as v2
from tests import test_peer_sdk_v1 as v1
from tests.gateway_processes import Far, child, gateway, lasting
from tests.peers.environment import sdk_v1


class Through:
    """A gateway in front of one server of ours; which way, and in which era, is each class's matter."""

    way = "http"
    upstream_era = "modern"

    @classmethod
    def gateway(cls, stack: ExitStack, **server: Any) -> str:
        far = Far(stack)
        port = gateway(stack, far.upstream(cls.way, cls.upstream_era, names="none"), **server)
        return f"http://127.0.0.1:{port}/mcp"


class V2Client(Through, v2.Scenarios):
    @classmethod
    def target(cls, stack: ExitStack) -> tuple[str, ...]:
        return (cls.gateway(stack),)


class V2LegacyClient(Through, v2.Legacy):
    @classmethod
    def target(cls, stack: ExitStack) -> tuple[str, ...]:
        return (cls.gateway(stack),)


class V1Client(Through, v1.Scenarios):
    transport = "http"
    wrong = "isError"  # the upstream, which validates them, has said so
    leaves = False  # the stream that the upstream ends is the gateway's

    @classmethod
    def target(cls, stack: ExitStack, settings: Path) -> tuple[str, ...]:
        del settings
        return (cls.gateway(stack, page_size=v1.PAGE),)


class V2ModernHttpTests(V2Client, TestCase):
    """2.x, modern; the upstream over HTTP, modern."""


class V2ModernStdioTests(V2Client, TestCase):
    way = "stdio"


class V2HandshakeHttpTests(V2Client, TestCase):
    """2.x, modern; the upstream over HTTP, of the handshake era."""

    upstream_era = "2025-11-25"


class V2HandshakeStdioTests(V2Client, TestCase):
    way = "stdio"
    upstream_era = "2025-11-25"


class V2LegacyModernHttpTests(V2LegacyClient, TestCase):
    """2.x, of the handshake era; the upstream over HTTP, modern."""


class V2LegacyHandshakeHttpTests(V2LegacyClient, TestCase):
    upstream_era = "2025-11-25"


class V1ModernHttpTests(V1Client, TestCase):
    """1.x; the upstream over HTTP, modern."""


class V1ModernTcpTests(V1Client, TestCase):
    way = "tcp"


class V1HandshakeHttpTests(V1Client, TestCase):
    upstream_era = "2025-11-25"


# its servers


class Behind(servers.Asking):
    """A server of the official SDK as the upstream, and a client of ours; each class is one pair."""

    upstream_era: ClassVar[str | None] = None
    asked = True

    async def test_giving_up(self) -> None:
        """Over stdio, who may be asked has a session of the handshake era for one call at a time."""
        self.asked = False
        await super().test_giving_up()

    def client(self) -> Client:
        port = front(self.python(), self.mode, self.upstream_era)
        target = http(reactor, f"http://127.0.0.1:{port}/mcp")

        def answer(question: Elicitation) -> dict[str, Any]:
            return accept({"colour": "blue"}) if "colour" in question.message else accept({})

        answers = Answers(elicit=answer) if self.asked else None
        client = Client(target, reactor, answers=answers, era=self.era, timeout=20.0)
        self.addCleanup(client.close)  # type: ignore[attr-defined]
        return client


@functools.cache
def front(python: str, mode: str, era: str | None) -> int:
    """The port of a gateway in front of such a server."""
    if mode == "stdio":
        table = child(python, str(servers.SERVER), "stdio")
    else:
        path = "/sse" if mode == "sse" else "/mcp"
        table = {"transport": "http", "url": f"http://127.0.0.1:{servers.port_of(python, mode)}{path}"}
    more = {} if era is None else {"era": era}
    return gateway(lasting(), {"name": "far", **table, **more, "names": "none", "start": "eager"})


class Handshake:
    """A client of the handshake era."""

    era = "2025-11-25"
    speaks = "handshake"


class BehindV1(Behind):
    @classmethod
    def python(cls) -> str:
        return sdk_v1()


class V2Http(Behind, TrialCase):
    mode = "http"


class V2HttpToHandshake(Handshake, Behind, TrialCase):
    mode = "http"


class V2HttpHandshake(Behind, TrialCase):
    mode = "http"
    upstream_era = "2025-11-25"


class V2HttpHandshakeToHandshake(Handshake, Behind, TrialCase):
    mode = "http"
    upstream_era = "2025-11-25"


class V2HttpJson(Behind, TrialCase):
    mode = "http-json"
    streams = False
    is_told = False  # the SDK does not look at its connection before it has an answer


class V2Stdio(Behind, TrialCase):
    mode = "stdio"


class V2StdioToHandshake(Handshake, Behind, TrialCase):
    mode = "stdio"


class V2StdioHandshake(Behind, TrialCase):
    mode = "stdio"
    upstream_era = "handshake"


class V2Sse(Behind, TrialCase):
    mode = "sse"


class V1Http(BehindV1, TrialCase):
    mode = "http"


class V1HttpToHandshake(Handshake, BehindV1, TrialCase):
    mode = "http"


class V1Stdio(BehindV1, TrialCase):
    mode = "stdio"


class V1StdioToHandshake(Handshake, BehindV1, TrialCase):
    mode = "stdio"


class V1Sse(BehindV1, TrialCase):
    mode = "sse"
