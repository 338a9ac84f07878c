"""From tables to settings: every mistake, its place, and what would be right."""

import re
from pathlib import Path
from typing import Annotated, Any

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.config import (
    ConfigurationError,
    EngineSettings,
    Limits,
    ListenerLimits,
    ListenSettings,
    ProviderSettings,
    Secret,
    ServerSettings,
    Settings,
    TelemetrySettings,
    UpstreamSettings,
    ViewSettings,
    load,
    nearest,
    transports,
)
from erlmcp.interfaces import WireLimits
from tests.daemon import ROOT


class HttpOptions(msgspec.Struct, frozen=True):
    path: Annotated[str, msgspec.Meta(pattern="^/")] = "/mcp"
    key: str = ""


class NeedyOptions(msgspec.Struct, frozen=True):
    command: str


class Transport:
    def __init__(self, options: type[msgspec.Struct]) -> None:
        self.options = options


TRANSPORTS = {"http": Transport(HttpOptions), "needy": Transport(NeedyOptions)}
PROVIDER = "[[provider]]\nuse = 'demo'\n"


class ConfigTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.file = Path(self.mktemp())
        self.file.parent.mkdir(parents=True, exist_ok=True)

    def load(self, text: str, **options: Any) -> Settings:
        self.file.write_text(text)
        return load(self.file, TRANSPORTS, **options)

    def problems(self, text: str, **options: Any) -> list[str]:
        with self.assertRaises(ConfigurationError) as caught:
            self.load(text, **options)
        return [str(one).removeprefix(f"{self.file}:") for one in caught.exception.problems]


class GoodTests(ConfigTestCase):
    """What is right comes out as it went in."""

    def test_defaults(self) -> None:
        settings = self.load(PROVIDER)
        self.assertEqual(settings.server, ServerSettings())
        self.assertEqual(settings.limits, Limits())
        self.assertEqual(settings.engine, EngineSettings())
        self.assertEqual(settings.telemetry, TelemetrySettings())
        self.assertEqual(settings.providers, (ProviderSettings(use="demo", key="provider[1]"),))
        self.assertEqual(settings.listen, ())

    def test_everything(self) -> None:
        settings = self.load(
            """
            [server]
            name = "n"
            keys = { env = "K" }
            drain = 3
            [limits]
            message = "64 KiB"
            write_buffer = "1MB"
            headers = 4096
            concurrency = 7
            sessions = 8
            [[provider]]
            use = "a:b"
            isolation = "inline"
            options = { x = 1 }
            [[listen]]
            name = "main"
            transport = "http"
            endpoint = "tcp:1"
            auth = "none"
            path = "/x"
            key = "k"
            limits = { slow = 2, message = "1 MiB" }
            [[listen]]
            transport = "http"
            [engine]
            kind = "embedded"
            entries = 5
            memory = "1 MiB"
            [telemetry]
            endpoint = "tcp:2"
            hosts = ["h"]
            """
        )
        self.assertEqual(settings.server.keys, Secret(env="K"))
        self.assertEqual(settings.server.drain, 3.0)
        self.assertEqual(settings.limits.message, 65536)
        self.assertEqual(settings.limits.write_buffer, 1_000_000)
        self.assertEqual((settings.limits.concurrency, settings.limits.sessions), (7, 8))
        self.assertEqual(settings.providers[0].options, {"x": 1})
        main, other = settings.listen
        self.assertEqual((main.name, main.auth, main.options), ("main", "none", HttpOptions("/x", "k")))
        self.assertEqual((main.limits.slow, main.limits.message, main.limits.headers), (2.0, 1 << 20, 4096))
        self.assertEqual((other.name, other.limits.message), ("http-2", 65536))
        self.assertEqual((settings.engine.entries, settings.engine.memory), (5, 1 << 20))
        self.assertEqual(settings.telemetry.hosts, ("h",))
        self.assertEqual(
            str(settings.problem("listen[1].endpoint", "w", "r")), f"{self.file}:19: listen[1].endpoint: w; r"
        )
        self.assertEqual(str(settings.problem("elsewhere", "w")), "elsewhere: w")

    def test_wire_limits(self) -> None:
        """Each bound of the wire can be set, has the same default, and is passed on."""
        self.assertEqual(ListenerLimits().wire, WireLimits())
        self.assertEqual(ListenerLimits(slow=3.0, message=2048).wire, WireLimits(slow=3.0, message=2048))

    def test_command_line_alone(self) -> None:
        settings = load(None, TRANSPORTS, listen=["http:tcp:0:interface=::1", "http"], providers=["a:b", "c"])
        self.assertEqual([one.endpoint for one in settings.listen], ["tcp:0:interface=::1", ""])
        self.assertEqual([one.name for one in settings.listen], ["http-1", "http-2"])
        self.assertEqual([one.use for one in settings.providers], ["a:b", "c"])

    def test_demo(self) -> None:
        settings = load(None, TRANSPORTS, daemon=True)
        self.assertEqual(settings.providers[0].use, "erlmcp.examples.demo:provider")
        self.assertEqual(settings.listen[0].endpoint, "tcp:8765:interface=127.0.0.1")

    def test_command_line_adds_to_the_file(self) -> None:
        text = PROVIDER + "[limits]\nslow = 1\n[[listen]]\ntransport = 'http'\n"
        settings = self.load(text, listen=["http:unix:x"], providers=["more"])
        self.assertEqual([one.endpoint for one in settings.listen], ["", "unix:x"])
        self.assertEqual([one.limits.slow for one in settings.listen], [1.0, 1.0])
        self.assertEqual([one.use for one in settings.providers], ["demo", "more"])


class WrongTests(ConfigTestCase):
    """What is wrong is said, all of it."""

    def test_all_at_once(self) -> None:
        text = PROVIDER + "[server]\nnmae = 'x'\ndrain = 'soon'\npage_size = 0\n[limitz]\n[[listen]]\nx = 1\n"
        tables = "engine, limits, listen, provider, server, server_view, telemetry, upstream"
        server = (
            "drain, instructions, keys, middleware, name, page_size, runtime, state, title, version, workers"
        )
        self.assertEqual(
            self.problems(text),
            [
                f"7: limitz: unknown table; did you mean limits? (known are {tables})",
                f"4: server.nmae: unknown key; did you mean name? (known are {server})",
                "5: server.drain: 'soon' will not do: expected float, got str; the default is 10.0",
                "6: server.page_size: 0 will not do: expected int >= 1; the default is 100",
                "9: listen[1].x: unknown key; known are auth, endpoint, expose, limits, name, transport, view",
                "8: listen[1].transport: is missing; every [[listen]] needs it",
            ],
        )

    def test_engine(self) -> None:
        problems = self.problems(PROVIDER + "[engine]\nkind = 'redis'\nmemory = 5\nfile = 'x'\n")
        self.assertEqual(
            [problem.split(" will not do")[0] for problem in problems],
            [
                "4: engine.kind: 'redis'",
                "5: engine.memory: 5",
                "6: engine.file: unknown key; known are entries, kind, memory",
            ],
        )

    def test_not_in_this_version(self) -> None:
        text = PROVIDER + "[auth]\n[[role]]\n[[limit]]\n"
        problems = self.problems(text + "[receipts]\n")
        self.assertEqual(len(problems), 4)
        for problem in problems:
            self.assertIn("not in this version", problem)

    def test_isolation(self) -> None:
        problems = self.problems(PROVIDER + "pool = { size = 1 }\nsandbox = 'rlimits'\n")
        self.assertEqual(len(problems), 2)
        for problem in problems:
            self.assertIn('in the daemon itself; isolation = "process" runs it in child processes', problem)

    def test_upstreams(self) -> None:
        text = (
            "[[upstream]]\nname = 'a'\ntransport = 'stdio'\nurl = 'http://x/'\nheaders = {}\n"
            "[[upstream]]\nname = 'b'\ntransport = 'http'\ncommand = ['x']\nsandbox = 'rlimits'\n"
            "[[upstream]]\nname = 'c'\ntransport = 'pigeon'\n"
            "[[upstream]]\nname = 'd'\ntransport = 'tcp'\nendpoint = 'tcp:x:1'\ntoken = 'secret'\npool = { sice = 1 }\n"
        )
        said = "\n".join(self.problems(text))
        for words in (
            'upstream[1].command: is missing; transport = "stdio" needs it',
            'upstream[1].url: does not belong to transport = "stdio"; it is http\'s',
            "upstream[1].headers: does not belong",
            "upstream[2].url: is missing",
            'upstream[2].sandbox: does not belong to transport = "http"; it is stdio\'s',
            "upstream[3].transport: 'pigeon' will not do: it must be 'stdio' or 'tcp' or 'http'",
            "upstream[4].token: a secret is never written in the file itself",
            "upstream[4].pool: ",
        ):
            self.assertIn(words, said)

    def test_one_of_a_few_words(self) -> None:
        problems = self.problems(
            PROVIDER + "isolation = 'proces'\n[telemetry]\nauth = 'no'\nlog_level = 'loud'\n"
        )
        self.assertIn("'proces' will not do: it must be 'inline' or 'process'", problems[2])
        self.assertIn("'loud' will not do: it must be 'debug' or 'info' or 'warn' or", problems[1])
        self.assertIn("'no' will not do: it must be 'none'", problems[0])

    def test_shapes(self) -> None:
        problems = self.problems(
            "server = 1\nlimits = []\nlisten = {}\nprovider = [1, [2]]\ntelemetry = [[3]]\n"
        )
        self.assertEqual(
            problems,
            [
                "1: server: is the value 1; it must be a table",
                "2: limits: is an array; it must be a table",
                "5: telemetry: is an array; it must be a table",
                "4: provider[1]: is the value 1; it must be a table",
                "4: provider[2]: is an array; it must be a table",
                "3: listen: is one table or value; it is an array of tables: [[listen]]",
            ],
        )

    def test_one_table_for_an_array_and_the_reverse(self) -> None:
        problems = self.problems("[provider]\nuse = 'x'\n[[server]]\nname = 'x'\n")
        self.assertEqual(
            problems,
            [
                "3: server: is an array of tables; it must be a table",
                "1: provider: is one table or value; it is an array of tables: [[provider]]",
            ],
        )

    def test_listen_that_is_no_table(self) -> None:
        problems = self.problems("listen = [1]\n" + PROVIDER)
        self.assertEqual(problems, ["1: listen[1]: is the value 1; it must be a table"])

    def test_transport(self) -> None:
        text = (
            PROVIDER
            + "[[listen]]\ntransport = 'htp'\n[[listen]]\ntransport = 5\n[[listen]]\ntransport = 'needy'\n"
        )
        known = "(known are http, needy)"
        self.assertEqual(
            self.problems(text),
            [
                f"4: listen[1].transport: no transport plugin is named 'htp'; did you mean http? {known}",
                "6: listen[2].transport: 5 will not do: expected str, got int",
                "7: listen[3].command: is missing; every [[listen]] needs it",
            ],
        )

    def test_options_of_the_transport(self) -> None:
        text = PROVIDER + "[[listen]]\ntransport = 'http'\npath = 'x'\nlimits = { slow = inf, slwo = 1 }\n"
        problems = self.problems(text)
        self.assertEqual(len(problems), 3)
        self.assertIn("6: listen[1].limits.slow: inf will not do", problems[0])
        self.assertIn("6: listen[1].limits.slwo: unknown key; did you mean slow?", problems[1])
        self.assertIn("5: listen[1].path: 'x' will not do", problems[2])

    def test_names(self) -> None:
        text = PROVIDER + "[[listen]]\ntransport = 'http'\nname = 'http-2'\n[[listen]]\ntransport = 'http'\n"
        self.assertEqual(
            self.problems(text), ["6: listen[2].name: listen[1] is named 'http-2' too; names are unique"]
        )
        self.assertIn(
            "3: listen[1].name: '' will not do",
            self.problems("[[listen]]\ntransport='http'\nname=''\n" + PROVIDER)[0],
        )

    def test_numbers(self) -> None:
        for value in ("nan", "inf", "-1", "0", "true", "'1'"):
            self.assertEqual(len(self.problems(PROVIDER + f"[limits]\nidle = {value}\n")), 1, value)
        for value in ("'4 parsecs'", "'-1'", "'9999999999999 B'", "'1 B'", "1", "true", "1.5"):
            self.assertEqual(len(self.problems(PROVIDER + f"[limits]\nmessage = {value}\n")), 1, value)

    def test_secrets(self) -> None:
        for value, said in (
            ("'abc'", "never written in the file itself"),
            ("{ flie = 'x' }", "unknown field flie"),
            ("{ file = 'x', env = 'y' }", "exactly one of file, env, credential"),
            ("{}", "exactly one of file, env, credential"),
        ):
            (problem,) = self.problems(PROVIDER + f"[server]\nkeys = {value}\n")
            self.assertTrue(problem.startswith("4: server.keys: "), problem)
            self.assertIn(said, problem)

    def test_nothing_to_serve(self) -> None:
        nothing = f"{self.file} has no [[provider]] and no [[upstream]], so there is nothing to serve"
        self.assertEqual(
            self.problems("", daemon=True),
            [
                f"{nothing}; add one, or --provider",
                f"{self.file} has no [[listen]], so nobody could connect; add one, or --listen",
            ],
        )

    def test_command_line(self) -> None:
        with self.assertRaises(ConfigurationError) as caught:
            load(None, TRANSPORTS, listen=["htp:tcp:0", ":x"], providers=[""])
        first, second, third = map(str, sorted(caught.exception.problems, key=str))
        self.assertIn("--listen :x: listen[2].transport: no transport plugin is named ''", first)
        self.assertIn("--listen htp:tcp:0: listen[1].transport: no transport plugin is named 'htp'", second)
        self.assertIn("--provider : provider[1].use: '' will not do", third)

    def test_nearest(self) -> None:
        self.assertEqual(nearest("x", []), "there are none")
        self.assertEqual(nearest("nam", ["name"]), "did you mean name? (known is name)")
        self.assertEqual(nearest("zzz", ["b", "a"]), "known are a, b")


class SampleTests(SynchronousTestCase):
    """The sample in ``etc`` is right, and has every key."""

    def setUp(self) -> None:
        self.text = (ROOT / "etc" / "erlmcp.toml").read_text()

    def test_as_it_is(self) -> None:
        settings = load(ROOT / "etc" / "erlmcp.toml", transports(), daemon=True)
        self.assertEqual([one.transport for one in settings.listen], ["http", "tcp"])

    def test_every_setting_in_it_is_right(self) -> None:
        """With the examples taken out of their comments it is accepted still; defaults shown are the defaults."""
        full = Path(self.mktemp())
        full.write_text(re.sub(r"(?m)^#(?=[a-z_]+ = )", "", self.text))
        settings = load(full, transports(), daemon=True)
        self.assertEqual(settings.limits, Limits())
        self.assertEqual(settings.engine, EngineSettings())
        self.assertEqual((settings.server.drain, settings.server.page_size), (10.0, 100))
        self.assertEqual(settings.telemetry.auth, "none")

    def test_every_key_is_in_it(self) -> None:
        inner = {"key", "places"}
        http = transports()["http"].options
        for shape in (
            ServerSettings,
            Limits,
            ProviderSettings,
            ListenSettings,
            ViewSettings,
            EngineSettings,
            TelemetrySettings,
            http,
        ):
            for name in set(shape.__struct_fields__) - inner:
                self.assertRegex(self.text, rf"(?m)^#?{name} = |^\[.*{name}", shape.__name__)


class ReferenceTests(SynchronousTestCase):
    """The reference names every key."""

    def test_every_key_is_in_it(self) -> None:
        text = (ROOT / "docs" / "reference" / "configuration.md").read_text()
        found = transports()
        shapes = [
            ServerSettings,
            Limits,
            ProviderSettings,
            UpstreamSettings,
            ListenSettings,
            ViewSettings,
            EngineSettings,
            TelemetrySettings,
            found["http"].options,
        ]
        for shape in shapes:
            for name in set(shape.__struct_fields__) - {"key", "options", "credentials", "allow", "deny"}:
                self.assertIn(f"\n| `{name}` |", text, shape.__name__)
        for name in found["stdio"].options.__struct_fields__:
            self.assertIn(f"adds `{name}`", text)
