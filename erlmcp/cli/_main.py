"""Subcommands and their arguments. What a subcommand needs is imported when it runs, so that each starts quickly."""

import argparse
from collections.abc import Sequence
from importlib import import_module

from erlmcp import __version__

_EPILOG = "To run erlmcp as a daemon: twistd -n erlmcp --help"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the console script's entry point.

    Args:
        arguments: without the program's name; None for those of the process.

    Returns:
        the process's exit status.
    """
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    # argparse takes no more of a list of words once an option has stood between them.
    if rest and (not hasattr(options, "arguments") or any(word.startswith("-") for word in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        options.arguments += rest
    module, _, function = options.run.partition(":")
    status: int = getattr(import_module(module), function)(options)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="erlmcp", description="The MCP server that you run like a daemon.", epilog=_EPILOG
    )
    parser.add_argument("--version", action="version", version=f"erlmcp {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    stdio = commands.add_parser(
        "stdio",
        help="serve one client on standard input and output",
        description="Serve one client on standard input and output: what an MCP host launches. Logs go to standard"
        " error. Listeners and telemetry of the configuration are left alone. Ends when standard input does.",
    )
    stdio.add_argument(
        "--config", metavar="FILE", help="a TOML file; without one the demo provider is served"
    )
    _add_repeated(stdio, "--provider", "MODULE:ATTRIBUTE", "serve this provider (may be repeated)")
    stdio.add_argument(
        "--options",
        metavar="OBJECT",
        type=_object,
        help="the options of the providers given with --provider, as a JSON object",
    )
    # What a daemon starts for `isolation = "process"`; see erlmcp.tap.
    stdio.add_argument("--isolated", action="store_true", help=argparse.SUPPRESS)
    stdio.add_argument("--view", metavar="NAME", help="show this [[server_view]] alone (default: everything)")
    stdio.add_argument(
        "--log-level",
        choices=("debug", "info", "warn", "error", "critical"),
        default="warn",
        help="the lowest level of log lines on standard error (default: warn)",
    )
    stdio.set_defaults(run="erlmcp.cli._stdio:run")

    check = commands.add_parser(
        "check",
        help="check a configuration",
        description="Check a configuration with its drop-ins: exit 0 if the daemon could start with it, or exit 1 with"
        " every problem found. Opens no port and writes no file.",
    )
    check.add_argument("file", metavar="FILE", help="the TOML file")
    check.set_defaults(run="erlmcp.cli._check:run")

    status = commands.add_parser(
        "status",
        help="show how a running daemon fares",
        description="Show the parts of a running daemon: their state, since when, how often they were restarted, and"
        " their last error. Asks over admin.sock in the daemon's runtime directory, which answers the daemon's own user"
        " and root. Exits 0 if the daemon is ready, 3 if it is not, 1 if it cannot be asked.",
    )
    status.add_argument(
        "--runtime",
        metavar="DIR",
        help="the daemon's runtime directory (default: $RUNTIME_DIRECTORY, else /run/erlmcp)",
    )
    status.add_argument("--json", action="store_true", help="print JSON, with all that is known")
    status.set_defaults(run="erlmcp.cli._status:run")

    plugins = commands.add_parser(
        "plugins",
        help="list the plugins found",
        description="List the transports and providers that are installed.",
    )
    plugins.set_defaults(run="erlmcp.cli._plugins:run")

    tools = commands.add_parser(
        "tools",
        help="list the tools of a server",
        description="List the tools of any MCP server.",
    )
    _add_server(tools)
    tools.add_argument("--json", action="store_true", help="print the definitions as JSON")
    tools.set_defaults(run="erlmcp.cli._remote:tools")

    call = commands.add_parser(
        "call",
        help="call a tool of a server",
        description="Call a tool of any MCP server, and print what it answers. Exits with 0; 1 if the tool failed; 2"
        " for wrong usage; 3 if the server cannot be reached, is lost or silent; 4 if it refuses; 5 if it wants"
        " authorization that is not to be had.",
    )
    _add_server(call)
    call.add_argument("tool", metavar="TOOL", help="the tool's name")
    call.add_argument(
        "arguments",
        metavar="KEY=VALUE",
        nargs="*",
        help="an argument, read as the tool's schema says; KEY:=JSON for any JSON value",
    )
    call.add_argument("--json", metavar="OBJECT", help="the arguments as one JSON object")
    call.add_argument("--raw", action="store_true", help="print the whole result as JSON")
    _add_seconds(call, "--longest", 3600.0, "how long the call may take whatever progress it makes")
    call.add_argument(
        "--log-level",
        metavar="LEVEL",
        choices=("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"),
        help="show what the server logs from this level on",
    )
    call.set_defaults(run="erlmcp.cli._remote:call")

    pin = commands.add_parser(
        "pin",
        help="record upstreams' tools, and see what has changed",
        description="Compare the tools of a configuration's upstreams with what was accepted of them, and record those"
        " of an upstream that is pinned for the first time. Exits 0 if all is as accepted, or has been recorded; 1 if"
        " something differs, or cannot be recorded; 3 if an upstream cannot be reached.",
    )
    pin.add_argument("file", metavar="FILE", help="the daemon's TOML file")
    pin.add_argument("--upstream", metavar="NAME", help="this one alone (default: all)")
    pin.add_argument("--accept", action="store_true", help="record what differs, too")
    pin.set_defaults(run="erlmcp.cli._pin:run")

    imported = commands.add_parser(
        "import",
        help="turn an MCP host's configuration into upstreams",
        description="Turn the servers of an MCP host's configuration (mcpServers) into [[upstream]] tables, for a file"
        " among the drop-ins. Secrets become names of environment variables; notes on standard error say which.",
    )
    imported.add_argument("file", metavar="HOSTCONFIG", help="the host's JSON file; - for standard input")
    imported.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="write there, a new file of mode 0600 (default: standard output)",
    )
    imported.set_defaults(run="erlmcp.cli._import:run")

    key = commands.add_parser("key", help="make keys", description="Make keys.")
    actions = key.add_subparsers(title="actions", metavar="ACTION", required=True)
    new = actions.add_parser(
        "new",
        help="print a new sealing key",
        description="Print a new sealing key. Put it on the first line of the keys secret to rotate: it seals from"
        " then on, and the lines below still unseal.",
    )
    new.set_defaults(run="erlmcp.cli._key:run")
    return parser


def _object(text: str) -> dict[str, object]:
    import json

    try:
        value = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"{text!r} is no JSON object")
    return value


def _add_server(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "server",
        metavar="SERVER",
        help="a URL, an endpoint such as tcp:localhost:9000, or a command to start, in one word: 'python server.py'",
    )
    parser.add_argument(
        "--era",
        metavar="ERA",
        help="modern, handshake or a revision such as 2025-06-18; found out if it is not said",
    )
    _add_repeated(
        parser,
        "--header",
        "'NAME: VALUE'",
        "a header for a URL (may be repeated); the value env:VARIABLE is read from the environment",
    )
    parser.add_argument(
        "--authorize",
        action="store_true",
        help="get a token if the server at a URL wants one: you agree in a browser; it is kept for the next time",
    )
    parser.add_argument(
        "--client-id",
        metavar="ID",
        default="",
        help="with --authorize: a client that the authorization server knows, where none can register itself",
    )
    _add_seconds(parser, "--timeout", 60.0, "how long to wait without an answer or progress")


def _add_repeated(parser: argparse.ArgumentParser, name: str, metavar: str, summary: str) -> None:
    parser.add_argument(name, metavar=metavar, action="append", default=[], help=summary)


def _add_seconds(parser: argparse.ArgumentParser, name: str, default: float, summary: str) -> None:
    text = f"{summary} (default: {default:g})"
    parser.add_argument(name, metavar="SECONDS", type=float, default=default, help=text)
