"""What an interaction test is: a case over each transport, whose methods claim requirements."""

import sys
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

from twisted.trial.unittest import SynchronousTestCase

from erlmcp.interfaces import IBackend
from tests.interaction.clients import TRANSPORTS, Client, World
from tests.interaction.stage import Stage

C = TypeVar("C", bound="type[Interaction]")
F = TypeVar("F", bound=Callable[..., Any])

#: requirement id -> the tests that claim it, as ``module:Class.method``
CLAIMS: dict[str, set[str]] = {}


def holds(*ids: str) -> Callable[[F], F]:
    """Claim that a test holds the server to these requirements (ids of `tests.interaction.requirements`)."""

    def claim(test: F) -> F:
        for one in ids:
            CLAIMS.setdefault(one, set()).add(f"{test.__module__}.{test.__qualname__}")
        return test

    return claim


class Interaction(SynchronousTestCase):
    """A test with one server on stage and one client of it; at its end, whatever has come is validated."""

    client_class: ClassVar[type[Client]] = TRANSPORTS[0]

    def setUp(self) -> None:
        self.stage = Stage()
        self.world = self.serve(self.stage.provider)
        self.client = self.connect()

    def tearDown(self) -> None:
        for client in self.world.clients:
            client.pump()

    def serve(self, *backends: IBackend, **options: Any) -> World:
        """A server of these backends."""
        return World(*backends, **options)

    def connect(self, world: World | None = None) -> Any:
        """A client of the server, over the transport of this case."""
        return self.client_class(self.world if world is None else world)

    def again(self, *backends: IBackend, **options: Any) -> Any:
        """A client of another server; the first is forgotten."""
        self.world = self.serve(*backends, **options)
        self.client = self.connect()
        return self.client

    def refused(self, sent: Any, code: int, status: int) -> dict[str, Any]:
        """The error of a refused request, which has this code and, on HTTP, this status."""
        self.assertEqual(sent.code, code, sent.error)
        if self.client_class.on_http:
            self.assertEqual(sent.http.status, status)
        error: dict[str, Any] = sent.error
        return error


def over(*transports: type[Client]) -> Callable[[C], C]:
    """Run a case over each of these transports: the first under its own name, the others under ``NameOver…``."""

    def multiply(case: C) -> C:
        case.client_class = transports[0]
        module = sys.modules[case.__module__]
        for transport in transports[1:]:
            name = f"{case.__name__}{_suffix(transport)}"
            further = type(name, (case,), {"client_class": transport, "__module__": case.__module__})
            setattr(module, name, further)
        return case

    return multiply


def _suffix(transport: type[Client]) -> str:
    return transport.__name__ if transport.__name__.startswith("Over") else f"Over{transport.__name__}"


everywhere = over(*TRANSPORTS)
