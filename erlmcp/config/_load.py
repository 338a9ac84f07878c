"""A configuration from its file, from the command line, or from both."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from erlmcp.config._interpret import interpret
from erlmcp.config._model import Settings
from erlmcp.config._sources import Merged, Source, read

DEMO_PROVIDER = "erlmcp.examples.demo:provider"
DEMO_LISTEN = "http:tcp:8765:interface=127.0.0.1"


def load(
    file: Path | None,
    transports: Mapping[str, Any],
    *,
    listen: Sequence[str] = (),
    providers: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
    daemon: bool = False,
) -> Settings:
    """Read a configuration file with its drop-ins, add what the command line says, and check it all.

    Without a file, and where the command line says nothing, the demo provider is served on loopback.

    Args:
        file: the main file; None for none.
        transports: the transport plugins by name.
        listen: further listeners, ``TRANSPORT:ENDPOINT`` each, the transport up to the first colon.
        providers: further providers, ``MODULE:ATTRIBUTE`` or a plugin's name each.
        options: the table of these providers' own.
        daemon: whether a configuration without a listener is a mistake.

    Raises:
        erlmcp.config.ConfigurationError: with every problem found.
    """
    merged = Merged() if file is None else read(file)
    if file is None:
        listen = listen or (DEMO_LISTEN,)
        providers = providers or (DEMO_PROVIDER,)
    for spec in listen:
        merged.add(Source(f"--listen {spec}", "", {"listen": [_split(spec)]}))
    for use in providers:
        merged.add(
            Source(
                f"--provider {use}",
                "",
                {"provider": [{"use": use, **({"options": dict(options)} if options else {})}]},
            )
        )
    if not merged.problems:
        if not merged.table.get("provider") and not merged.table.get("upstream"):
            wrong = f"{file} has no [[provider]] and no [[upstream]], so there is nothing to serve"
            merged.problem((), wrong, "add one, or --provider")
        if daemon and not merged.table.get("listen"):
            merged.problem((), f"{file} has no [[listen]], so nobody could connect", "add one, or --listen")
    return interpret(merged, transports)


def _split(spec: str) -> dict[str, str]:
    transport, colon, endpoint = spec.partition(":")
    return {"transport": transport, "endpoint": endpoint} if colon else {"transport": transport}
