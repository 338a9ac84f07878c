"""Putting the parts together: options in, problems or a daemon out."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from twisted.application.service import IServiceMaker
from twisted.internet.testing import MemoryReactorClock
from twisted.plugin import getPlugins
from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from erlmcp import Provider, config, tap
from erlmcp.config import ConfigurationError, ListenerLimits, Settings
from erlmcp.gateway._own import OWN_KEY
from erlmcp.interfaces import IMiddleware, Peer
from erlmcp.tap._isolated import Isolated
from erlmcp.tap._marks import marks
from erlmcp.testing import MemoryExchange

one = Provider("one")
two = Provider("two")
twin = Provider("one")
needy = Provider("needy", asyncio=True)


@one.tool
async def echo(text: str) -> str:
    return text


made = Provider("made")


@made.tool(timeout=900.0)
async def slow() -> str:
    return "slow"


@two.tool(name="echo")
async def other_echo(text: str) -> str:
    return text


def uses(*names: str) -> list[str]:
    return [f"{__name__}:{name}" for name in names]


class Transport:
    """Keeps the contexts that it is given."""

    class Options(msgspec.Struct, frozen=True):
        fail: str = ""

    name = "fake"
    options = Options

    def __init__(self) -> None:
        self.contexts: list[Any] = []

    def listener(self, context: Any, options: Any) -> Any:
        if options.fail:
            raise ValueError(options.fail)
        self.contexts.append(context)
        return object()


class AssemblyTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.transport = Transport()
        self.transports = {**config.transports(), "fake": self.transport}

    def settings(self, text: str) -> Settings:
        file = Path(self.mktemp())
        file.write_text(text)
        return config.load(file, self.transports)

    def assemble(self, settings: Settings, environ: Mapping[str, str] | None = None) -> tap.Parts:
        backends = tap.backends_for(settings, {})
        return tap.assemble(
            settings, backends, self.reactor, transports=self.transports, environ=environ or {}
        )

    def problems(self, settings: Settings, environ: Mapping[str, str] | None = None) -> list[str]:
        error = self.assertRaises(ConfigurationError, self.assemble, settings, environ)
        return [f"{problem.line} {problem.key}: {problem.wrong}" for problem in error.problems]


@implementer(IMiddleware)
class Marking:
    """Adds its name to each answer."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def wrap(self, request: Any, call_next: Any) -> Any:
        outcome = await call_next(request)
        outcome.fields["content"][0]["text"] += f" {self.name}"
        return outcome


class MiddlewareTests(AssemblyTestCase):
    """``[server] middleware``."""

    def configured(self, names: str) -> Settings:
        plugins = {"inner": Marking("inner"), "outer": Marking("outer")}
        self.patch(config, "found", lambda interface: plugins if interface is IMiddleware else {})
        [use] = uses("one")
        return self.settings(
            f'[server]\nmiddleware = {names}\n[[provider]]\nuse = "{use}"\n[[listen]]\ntransport = "fake"\n'
        )

    def test_configured_order(self) -> None:
        """A request goes through the plugins that are named, the first outermost."""
        channel = self.assemble(self.configured('["outer", "inner"]')).server.channel()
        meta = {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
        }
        params = {"name": "echo", "arguments": {"text": "hi"}, "_meta": meta}
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        exchange = MemoryExchange()
        channel.received(msgspec.json.encode(message), exchange)
        self.assertEqual(exchange.result["content"][0]["text"], "hi inner outer")

    def test_unknown(self) -> None:
        """A name that no plugin has is an error."""
        self.assertEqual(
            self.problems(self.configured('["outer", "oter"]')),
            ["2 server.middleware: no middleware plugin is named 'oter'"],
        )


class AssembleTests(AssemblyTestCase):
    """`backends_for` and `assemble`."""

    def test_limits_reach_the_listener(self) -> None:
        parts = self.assemble(
            self.settings(
                f"""
                [limits]
                slow = 1
                connections = 9
                [[provider]]
                use = "{uses("one")[0]}"
                [[listen]]
                name = "a"
                transport = "fake"
                limits = {{ connections = 1, message = "2 KiB", depth = 8 }}
                [[listen]]
                transport = "fake"
                auth = "none"
                """
            )
        )
        first, second = self.transport.contexts
        self.assertEqual((first.name, first.limits.wire.slow, first.limits.wire.message), ("a", 1.0, 2048))
        self.assertEqual(second.limits.wire.message, ListenerLimits().message)
        self.assertIs(first.clock, self.reactor)
        self.assertEqual([frontend.open for frontend in parts.frontends], [False, True])
        self.assertIsNone(parts.console)
        gauges = parts.counters.gauges
        self.assertIsNone(first.limits.admit(Peer(transport="fake")))
        self.assertIsNotNone(first.limits.admit(Peer(transport="fake")))
        self.assertEqual(gauges["erlmcp_connections_active"]["a", "fake"](), 1)
        self.assertEqual(gauges["erlmcp_connections_refused_total"]["a", "connections"](), 1)
        self.assertEqual(gauges["erlmcp_connections_refused_total"]["a", "per_address"](), 0)
        self.assertEqual((first.limits.flooded(), first.limits.flooded()), (1, 2))
        self.assertEqual(gauges["erlmcp_connections_flooded_total"]["a",](), 2)
        self.assertEqual(gauges["erlmcp_requests_in_flight"][()](), 0)

    def test_every_problem(self) -> None:
        settings = self.settings(
            f"""[server]
            keys = {{ env = "NOWHERE" }}
            [[provider]]
            use = "{uses("one")[0]}"
            [[provider]]
            use = "{uses("two")[0]}"
            [[listen]]
            transport = "http"
            endpoint = "tcp:1"
            [[listen]]
            transport = "tcp"
            endpoint = "tpc:1"
            [[listen]]
            transport = "fake"
            fail = "no such thing"
            [telemetry]
            endpoint = "tcp:2"
            """
        )
        found = self.problems(settings)
        self.assertEqual(len(found), 6)
        self.assertIn("2 server.keys: the environment has no variable NOWHERE", found[0])
        self.assertIn("6 provider[2].use: ", found[1])
        self.assertIn("9 listen[1].endpoint: tcp:1 is open: others than this machine can reach it", found[2])
        self.assertIn(
            "12 listen[2].endpoint: cannot listen on 'tpc:1': unknown endpoint type 'tpc'", found[3]
        )
        self.assertEqual(found[4], "13 listen[3]: no such thing")
        self.assertIn("17 telemetry.endpoint: tcp:2 is open", found[5])

    def test_an_interface_with_its_name_misspelt_is_no_open_endpoint(self) -> None:
        one = f'[[provider]]\nuse = "{uses("one")[0]}"\n'
        endpoint = 'endpoint = "tcp:1:interfce=127.0.0.1"\n'
        settings = self.settings(f'{one}[[listen]]\ntransport = "tcp"\n{endpoint}[telemetry]\n{endpoint}')
        found = self.problems(settings)
        self.assertEqual(len(found), 2)
        for problem in found:
            self.assertIn(
                "unexpected keyword parameter 'interfce'; such an endpoint looks like tcp:PORT", problem
            )

    def test_upstreams_sessions(self) -> None:
        """What an upstream has for a client's session is kept as long as that; another bound makes another upstream."""
        text = "[[upstream]]\nname = 'far'\ntransport = 'tcp'\nendpoint = 'tcp:127.0.0.1:1'\npool = { size = 3 }\n"
        digests = set()
        for seconds in (1800.0, 45.0):
            settings = self.settings(f"[limits]\nsession_idle = {seconds}\n" + text)
            (upstream,) = tap.backends_for(settings, {})
            self.assertEqual((upstream.plan.pool.size, upstream.plan.pool.lasting), (3, seconds))
            digests.update(marks(settings, [upstream]))
        self.assertEqual(len(digests), 2)

    def test_providers(self) -> None:
        settings = config.load(None, self.transports, providers=uses("one", "twin", "missing"))
        error = self.assertRaises(ConfigurationError, tap.backends_for, settings, {})
        first, second = error.problems
        self.assertIn("its name is 'one', like that of provider[1]", first.wrong)
        self.assertIn("has no attribute 'missing'", second.wrong)

    def test_asyncio_on_another_reactor(self) -> None:
        settings = config.load(None, self.transports, providers=uses("needy"))
        self.assertIn("asyncio", self.problems(settings)[0])

    def test_keys(self) -> None:
        text = f'[server]\nkeys = {{ env = "K" }}\n[[provider]]\nuse = "{uses("one")[0]}"\n'
        self.assertEqual(
            self.assemble(self.settings(text), {"K": config.new_key()}).keys, "the configured secret"
        )
        key = config.new_key()
        twice = self.problems(self.settings(text), {"K": f"{key}\n{key}\n"})
        self.assertIn("the same sealing key is in the ring twice", twice[0])

    def test_console(self) -> None:
        text = f'[[provider]]\nuse = "{uses("one")[0]}"\n[telemetry]\nendpoint = "%s"\n%s'
        parts = self.assemble(self.settings(text % ("tcp:2:interface=127.0.0.1", "")))
        assert parts.console is not None
        self.assertEqual((parts.console.endpoint, parts.console.open), ("tcp:2:interface=127.0.0.1", False))
        parts = self.assemble(self.settings(text % ("tcp:2", 'auth = "none"')))
        assert parts.console is not None
        self.assertTrue(parts.console.open)
        (problem,) = self.problems(self.settings(text % ("tcp:x:interface=127.0.0.1", "")))
        self.assertIn("4 telemetry.endpoint: cannot listen on", problem)


class OptionTests(SynchronousTestCase):
    """The command line of ``twistd erlmcp``."""

    def parsed(self, *arguments: str) -> tap.Options:
        options = tap.Options()
        options.parseOptions(list(arguments))
        return options

    def test_plugin(self) -> None:
        (maker,) = (plugin for plugin in getPlugins(IServiceMaker) if plugin.tapname == "erlmcp")
        self.assertIs(maker.options, tap.Options)
        self.assertIs(maker.makeService, tap.makeService)

    def test_demo(self) -> None:
        options = self.parsed()
        self.assertEqual([backend.name for backend in options.backends], ["demo"])
        self.assertEqual(options.settings.listen[0].options.path, "/mcp")

    def test_repeated(self) -> None:
        options = self.parsed(
            "--listen",
            "http:tcp:0:interface=127.0.0.1",
            "--listen",
            "tcp:unix:/x",
            "--provider",
            uses("one")[0],
        )
        self.assertEqual([one.transport for one in options.settings.listen], ["http", "tcp"])
        self.assertEqual(options.backends, [one])

    def test_problems(self) -> None:
        error = self.assertRaises(tap.StartFailed, self.parsed, "--listen", "htp:x", "--listen", "tpc:y")
        self.assertIn("--listen htp:x: ", str(error))
        self.assertIn("--listen tpc:y: ", str(error))
        error = self.assertRaises(tap.StartFailed, self.parsed, "--config", "/no/such/file.toml")
        self.assertIn("/no/such/file.toml: cannot be read: No such file or directory", str(error))
        error = self.assertRaises(tap.StartFailed, self.parsed, "--provider", "x:y")
        self.assertIn("there is no module 'x'", str(error))
        self.assertRaises(usage.UsageError, self.parsed, "--bogus")

    def test_make_service(self) -> None:
        daemon = tap.makeService(self.parsed("--listen", "http:tcp:0:interface=127.0.0.1"))
        self.assertEqual((daemon.name, daemon.unready), ("erlmcp", "starting"))

    def test_make_service_refuses(self) -> None:
        options = self.parsed("--listen", "http:tcp:0", "--listen", "tcp:tcp:bad:interface=127.0.0.1")
        error = self.assertRaises(tap.StartFailed, tap.makeService, options)
        self.assertTrue(
            str(error).startswith("erlmcp cannot start:\n--listen http:tcp:0: listen[1].endpoint: ")
        )
        self.assertIn("\n--listen tcp:tcp:bad:interface=127.0.0.1: listen[2].endpoint: ", str(error))


class ReactorTests(SynchronousTestCase):
    """`require_reactor`."""

    def test_nobody_needs_it(self) -> None:
        tap.require_reactor([one, object()])

    def test_installed_already(self) -> None:
        error = self.assertRaises(ValueError, tap.require_reactor, [one, needy])
        self.assertIn("the provider 'needy' needs asyncio", str(error))
        self.assertIn("twistd --reactor=asyncio", str(error))

    def test_installs(self) -> None:
        from twisted.internet import asyncioreactor

        installed: list[int] = []
        self.patch(asyncioreactor, "install", lambda: installed.append(1))
        modules = dict(sys.modules)
        del modules["twisted.internet.reactor"]
        self.patch(sys, "modules", modules)
        tap.require_reactor([needy])
        self.assertEqual(installed, [1])

    def test_the_right_one_is_there(self) -> None:
        from twisted.internet.asyncioreactor import AsyncioSelectorReactor

        right = AsyncioSelectorReactor.__new__(AsyncioSelectorReactor)
        self.patch(sys, "modules", {**sys.modules, "twisted.internet.reactor": right})
        tap.require_reactor([needy])


class StandingTests(AssemblyTestCase):
    def test_a_provider_in_its_own_process_is_built_again_as_it_was(self) -> None:
        """What its daemon has to know of its tools it is told by the next one, too."""
        settings = self.settings("\n".join(f'[[provider]]\nuse = "{use}"' for use in uses("made", "one")))
        first, plain = tap.backends_for(settings, {})
        parts = tap.assemble(
            settings, [Isolated(first), plain], self.reactor, transports=self.transports, environ={}
        )
        for standing, kind in zip(parts.backends, (Isolated, Provider), strict=True):
            before = standing.definitions()
            standing.replace(self.reactor)
            self.assertIsInstance(standing.backend, kind)
            self.assertEqual(standing.definitions(), before)
        self.assertIn(OWN_KEY.encode(), bytes(parts.backends[0].definitions().tools["slow"].wire))
        parts.server.stop()
