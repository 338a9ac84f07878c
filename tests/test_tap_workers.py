"""The daemon with workers, and both kinds of reload, seen from inside: real sockets and processes, one reactor."""

import os
import socket
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.ssl import CertificateOptions
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase, TestCase

from erlmcp import config, tap
from erlmcp.config import ConfigurationError
from erlmcp.engine import EmbeddedEngine
from erlmcp.protocol import KeyRing
from erlmcp.tap import _work
from erlmcp.tap._assembly import Share, assemble, backends_for
from erlmcp.tap._daemon import Daemon
from erlmcp.tap._in_place import InheritingReactor, InPlaceChange
from erlmcp.tap._parent import Household, own_keys, unfit
from erlmcp.tap._reload import HouseholdChange, Reload, ReloadFailed
from erlmcp.workers import AdoptingReactor, Begin, Kit, Place, Relay
from tests.daemon import free_port
from tests.wires import Wire, text_of

PROVIDER = "tests.peers.worker_provider:provider"


class DaemonTestCase(TestCase):
    def setUp(self) -> None:
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp())
        self.file = self.folder / "erlmcp.toml"
        self.daemon: Daemon | None = None

    async def tearDown(self) -> None:  # type: ignore[override]
        if self.daemon is not None:
            await self.daemon.stopService()

    def write(self, server: str = "", rest: str = "", endpoint: str = "") -> None:
        endpoint = endpoint or f"tcp:{self.port}:interface=127.0.0.1"
        self.file.write_text(
            f'[server]\ndrain = 2\n{server}\n[[provider]]\nuse = "{PROVIDER}"\n'
            f'[[listen]]\nname = "mcp"\ntransport = "http"\nendpoint = "{endpoint}"\n{rest}'
        )

    def load(self) -> Any:
        return config.load(self.file, config.transports(), daemon=True)

    async def start(self, daemon: Daemon) -> None:
        self.daemon = daemon
        up: Deferred[None] = Deferred()
        daemon.up = lambda error: up.callback(None) if error is None else up.errback(error)
        daemon.privilegedStartService()
        daemon.startService()
        await up

    def options(self) -> dict[str, Any]:
        return {"signals": lambda *_: None, "leave": lambda _: None, "hangs_up": lambda: False, "drain": 2.0}

    async def call(self, tool: str = "pid", port: int | None = None, **arguments: Any) -> Any:
        def call() -> Any:
            with Wire(port or self.port) as wire:
                return wire.modern(tool, arguments)

        return await deferToThread(call)


class InPlaceTests(DaemonTestCase):
    """Without workers."""

    async def begin(self) -> Reload:
        self.write()
        settings = self.load()
        relay = Relay("first")
        parts = assemble(
            settings,
            backends_for(settings, {}),
            reactor,
            transports=config.transports(),
            environ={},
            sealing=own_keys(settings, {}),
            share=Share(owner=relay.owner, relay=relay),
        )
        await self.start(Daemon(parts, reactor, **self.options()))
        assert self.daemon is not None
        self.change = InPlaceChange(self.daemon, settings, relay, own_keys(settings, {}), reactor, {})
        return Reload(self.load, self.change)

    async def gone(self) -> None:
        while self.change._gone:
            await deferLater(reactor, 0.05, lambda: None)  # type: ignore[arg-type]

    async def test_reloads(self) -> None:
        reload = await self.begin()
        other = free_port()
        extra = (
            f'[[listen]]\nname = "more"\ntransport = "http"\nendpoint = "tcp:{other}:interface=127.0.0.1"\n'
        )
        demo = '[[provider]]\nuse = "erlmcp.examples.demo:provider"\n'
        self.write('name = "other"', demo + extra)
        first, second = reload(), reload()
        self.assertEqual(await first, "reloaded")
        self.assertEqual(await second, "reloaded")
        self.assertEqual(int(text_of(await self.call())), os.getpid())
        self.assertEqual(text_of(await self.call("echo", port=other, message="x")), "x")
        await self.gone()
        self.assertEqual(len(self.change._relays), 1)
        self.write()
        self.assertEqual(await reload(), "reloaded")
        with self.assertRaises(OSError):
            await self.call(port=other)
        self.write(endpoint=f"tcp:{other}:interface=127.0.0.1")
        self.assertEqual(await reload(), "reloaded")
        self.assertEqual(int(text_of(await self.call(port=other))), os.getpid())
        await self.gone()
        self.assertEqual(self.change._draining(), [])

    def upstream(self, name: str, port: int, more: str = "") -> str:
        return f'[[upstream]]\nname = "{name}"\ntransport = "tcp"\nendpoint = "tcp:127.0.0.1:{port}"\n{more}'

    def line(self, port: int) -> str:
        """A listener for lines, that upstreams may be reached at: the gateway itself."""
        endpoint = f"tcp:{port}:interface=127.0.0.1"
        return f'[[listen]]\nname = "line"\ntransport = "tcp"\nendpoint = "{endpoint}"\nview = "own"\n'

    async def test_upstreams(self) -> None:
        """What has not changed is the same object, supervised as before; what has ends once nobody has it."""
        reload = await self.begin()
        assert self.daemon is not None
        port = free_port()
        own = '[[server_view]]\nname = "own"\nbackends = ["workers"]\n'
        kept, moved, gone = (self.upstream(name, port) for name in ("kept", "moved", "gone"))
        for wanted in ("", kept + moved + gone):
            self.write("", own + self.line(port) + wanted)
            self.assertEqual(await reload(), "reloaded")
        for name in ("kept", "moved", "gone"):
            self.assertEqual(int(text_of(await self.call(f"{name}.pid"))), os.getpid())
        before = {one.name: one for one in self.daemon.parts.backends}
        counters = self.daemon.parts.counters
        self.assertIn(("gone",), counters.gauges["erlmcp_upstream_stale"])
        self.write("", own + self.line(port) + kept + self.upstream("moved", port, "timeout = 9\n"))
        self.assertEqual(await reload(), "reloaded")
        now = {one.name: one for one in self.daemon.parts.backends}
        self.assertEqual(list(now), ["workers", "kept", "moved"])
        self.assertEqual([now[name] is before[name] for name in now], [True, True, False])
        self.assertTrue(before["moved"].left)
        self.assertIsNone(before["moved"].refusing, "it still serves who has it")
        assert self.daemon.tree is not None
        supervisor = self.daemon.tree.service("backends")
        names = [child.name for child in supervisor.status().children]
        self.assertEqual(names, ["provider:workers", "upstream:kept", "upstream:moved"])
        for name in ("kept", "moved"):
            self.assertEqual(int(text_of(await self.call(f"{name}.pid"))), os.getpid())
        await self.gone()
        self.assertEqual([before[name].backend.leases.count for name in ("moved", "gone")], [0, 0])
        self.assertEqual(set(counters.gauges["erlmcp_upstream_stale"]), {("kept",), ("moved",)})
        # Of servers that have gone nobody hears of changes any more.
        self.assertEqual(len(now["kept"]._watchers), 1, "everything; no view has it")
        await self.refused_upstreams(reload, own + self.line(port), kept)

    async def refused_upstreams(self, reload: Reload, rest: str, kept: str) -> None:
        assert self.daemon is not None
        before = list(self.daemon.parts.backends)
        watchers = [len(one._watchers) for one in before]
        taken = f'[[listen]]\nname = "more"\ntransport = "http"\nendpoint = "tcp:{self.port}:interface=127.0.0.1"\n'
        secret = 'headers = { x = { file = "/no/such" } }\n'
        http = '[[upstream]]\nname = "http"\ntransport = "http"\nurl = "http://127.0.0.1:1/"\n'
        for wrong, why in (
            (kept + self.upstream("new", 1) + taken, "in use"),
            (self.upstream("new", 1) + http + secret, "/no/such"),
            (kept + self.upstream("workers", 1), "like that of"),
        ):
            self.write("", rest + wrong)
            with capturedLogs() as logs:
                self.assertIn("not reloaded", await reload())
            self.assertIn(why, str(logs[-1]["why"]))
            self.assertEqual(list(self.daemon.parts.backends), before)
            self.assertEqual([len(one._watchers) for one in before], watchers)
            self.assertNotIn(("new",), self.daemon.parts.counters.gauges["erlmcp_upstream_stale"])
        self.assertEqual(int(text_of(await self.call("kept.pid"))), os.getpid())

    async def test_what_is_refused(self) -> None:
        reload = await self.begin()
        taken = f'[[listen]]\nname = "more"\ntransport = "http"\nendpoint = "tcp:{self.port}:interface=127.0.0.1"\n'
        twin = f'[[provider]]\nuse = "{PROVIDER}"\n'
        for server, rest, endpoint, why in (
            ("workers = 2", "", "", "restart it"),
            ("name = 5", "", "", "server.name"),
            ("", taken, "", "Address already in use"),
            ("", twin, "", "names of providers are unique"),
            ("", '[[provider]]\nuse = "no.such:thing"\n', "", "no module"),
            ("", "", f"tcp:{self.port}:interface=127.0.0.1:backlog=9", "Address already in use"),
        ):
            self.write(server, rest, endpoint)
            with capturedLogs() as logs:
                self.assertIn("not reloaded", await reload())
            self.assertIn(why, str(logs[-1]["why"]))
            self.assertEqual(int(text_of(await self.call())), os.getpid())
        self.write("", "[engine]\nentries = 1000\n")
        self.assertIn("but for engine", await reload())

    async def test_what_fails_otherwise(self) -> None:
        def load() -> Any:
            raise ZeroDivisionError

        reload = Reload(load, InPlaceChange.__new__(InPlaceChange))
        reload._change.settings = None  # type: ignore[misc]
        self.assertIn("the log says why", await reload())
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    async def test_no_listeners_now(self) -> None:
        await self.begin()
        assert self.daemon is not None
        tree, self.daemon.tree = self.daemon.tree, None
        with self.assertRaises(ReloadFailed):
            await self.change.take_up(self.load())
        self.daemon.tree = tree

    async def test_a_port_that_cannot_be_given(self) -> None:
        await self.begin()

        class Frontends:
            def service(self, name: str) -> Any:
                return None

        with self.assertRaises(ReloadFailed):
            self.change._ports(self.load(), Frontends())


class HouseholdTests(DaemonTestCase):
    """With them."""

    async def test_life(self) -> None:
        self.write("workers = 2", '[telemetry]\nendpoint = "tcp:0:interface=127.0.0.1"\n')
        settings = self.load()
        household = Household(settings, backends_for(settings, {}), reactor, os.environ, keep_state=False)
        await self.start(Daemon(household.parts, reactor, frontends=household.spec, **self.options()))
        first = {int(text_of(await self.call())) for _ in range(30)}
        self.assertEqual(len(first), 2)
        self.assertIn(b'erlmcp_workers{state="ready"} 2.0', await household.metrics())
        reload = Reload(self.load, HouseholdChange(household, reactor, os.environ))
        other = free_port()
        extra = (
            f'[[listen]]\nname = "more"\ntransport = "http"\nendpoint = "tcp:{other}:interface=127.0.0.1"\n'
        )
        self.write("workers = 2", extra)
        self.assertIn("but for telemetry.endpoint", await reload())
        second = {int(text_of(await self.call(port=other))) for _ in range(30)}
        self.assertEqual((len(second), second & first), (2, set()))
        taken = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(taken.close)
        for server, rest, why in (
            ("workers = 0", "", "restart it"),
            ("workers = 2", '[[listen]]\ntransport = "stdio"\n', "standard input"),
            ("workers = 2", f'[[provider]]\nuse = "{PROVIDER}"\n', "unique"),
            ("workers = 2", extra.replace(str(other), str(taken.getsockname()[1])), "Address already in use"),
        ):
            self.write(server, rest)
            with capturedLogs() as logs:
                self.assertIn("not reloaded", await reload())
            self.assertIn(why, str([event.get("why") for event in logs]))
        self.write("workers = 2")
        self.assertIn("reloaded", await reload())
        # The former may still serve, until they hear that they are to go.
        with self.assertRaises(OSError):
            for _ in range(1000):
                await self.call(port=other)

    async def test_a_taken_port(self) -> None:
        self.write("workers = 2")
        settings = self.load()
        household = Household(settings, backends_for(settings, {}), reactor, os.environ, keep_state=False)
        place = Place("x", f"tcp:{self.port}:interface=127.0.0.1")
        await place.bind(reactor, 1, lambda *_: None)
        daemon = Daemon(household.parts, reactor, frontends=household.spec, **self.options())
        with self.assertRaises(tap.StartFailed):
            daemon.privilegedStartService()
        place.shut()
        self.flushLoggedErrors()

    def test_what_cannot_be_with_workers(self) -> None:
        self.write("workers = 2", '[[listen]]\ntransport = "stdio"\n')
        with self.assertRaises(ConfigurationError):
            Household(self.load(), [], reactor, {}, keep_state=False)
        self.assertEqual(len(tap.examine(self.file).problems), 1)
        sse = '[[listen]]\ntransport = "http"\nendpoint = "tcp:0:interface=127.0.0.1"\nsse = "/sse"\n'
        self.write("workers = 2", sse)
        (problem,) = unfit(self.load())
        self.assertIn("2024-11-05", problem.wrong)
        self.write('workers = 2\nkeys = { env = "NOT_THERE" }')
        with self.assertRaises(ConfigurationError):
            Household(self.load(), [], reactor, {}, keep_state=False)


class ServingTests(DaemonTestCase):
    """What a worker is put together to."""

    async def test_life(self) -> None:
        self.write()
        settings = self.load()
        place = Place("mcp", f"tcp:{self.port}:interface=127.0.0.1")
        await place.bind(reactor, 1, lambda *_: None)
        import pickle

        begin = Begin("aa", 1, pickle.dumps(settings), [KeyRing.generate()], {"mcp": ""})
        engine: Any = EmbeddedEngine(reactor)
        reactors = {"mcp": AdoptingReactor(reactor, [os.dup(place.sockets[0][0].fileno())])}
        serving = _work.Serving(Kit(begin, engine, reactors), Triggers())
        self.patch(_work, "on_term", lambda *_: None)
        serving._daemon._signals = lambda *_: None
        await serving.start()
        self.assertEqual(int(text_of(await self.call())), os.getpid())
        self.assertEqual(serving.pulse().in_flight, 0)
        self.assertIn(b"erlmcp_connections_active", serving.counters())
        await serving.end(2.0, gently=True)
        await serving.end(2.0, gently=False)
        place.shut()
        await engine.close()


class Triggers:
    """The reactor, but for what it does at its end."""

    def __getattr__(self, name: str) -> Any:
        return getattr(reactor, name)

    def addSystemEventTrigger(self, *_: Any) -> None:  # noqa: N802
        pass


class InheritingTests(SynchronousTestCase):
    """Ports that change hands."""

    def test_each_kind(self) -> None:
        calls: list[str] = []

        class Real:
            def __getattr__(self, name: str) -> Any:
                if name.startswith("__"):
                    raise AttributeError(name)
                return lambda *_, **__: calls.append(name)

        class Factory:
            def doStart(self) -> None:  # noqa: N802
                calls.append("start")

        class Port:
            factory: Any = None

        port, factory = Port(), Factory()
        heir = InheritingReactor(Real(), lambda: port)
        self.assertEqual(heir.describe("systemd:domain=INET:index=0"), "unix:passed")
        self.assertIs(heir.listenUNIX("x", factory), port)
        self.assertIs(port.factory, factory)
        heir.listenUNIX("x", factory)
        heir.listenTCP(1, factory)
        heir.listenSSL(1, factory, CertificateOptions())
        heir.anything()
        self.assertEqual(calls, ["start", "listenUNIX", "listenTCP", "listenSSL", "anything"])
        self.assertEqual(InheritingReactor(Real()).describe("systemd:x"), "systemd:x")


class TermTests(SynchronousTestCase):
    """A worker's signals."""

    def test_what_is_heard(self) -> None:
        import signal

        before = {
            number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        }
        heard: list[str] = []
        later: list[Any] = []

        class Reactor:
            def callFromThread(self, call: Any, *given: Any) -> None:  # noqa: N802
                call(*given)

            def callWhenRunning(self, call: Any) -> None:  # noqa: N802
                later.append(call)

        try:
            _work.on_term(Reactor(), heard.append)
            later[0]()
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGHUP)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        self.assertEqual(heard, ["SIGTERM"])
        self.assertIsNone(self.successResultOf(succeed(None)))
