"""A configuration from its file, or from the command line alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from erlmcp.config._interpret import interpret
from erlmcp.config._model import Settings
from erlmcp.config._problems import ConfigurationError, Problem
from erlmcp.config._sources import Merged, Source, read

DEMO_PROVIDER = "erlmcp.examples.demo:provider"
DEMO_LISTEN = "http:tcp:8765:interface=127.0.0.1"


def load(file: Path, transports: Mapping[str, Any]) -> Settings:
    """Read and check a configuration file with its drop-ins.

    Args:
        file: the main file.
        transports: the transport plugins by name.

    Raises:
        ConfigurationError: with every problem found.
    """
    return interpret(read(file), transports)


def from_command_line(
    listen: Sequence[str], providers: Sequence[str], transports: Mapping[str, Any]
) -> Settings:
    """What ``--listen`` and ``--provider`` say, checked like a file.

    Args:
        listen: ``TRANSPORT:ENDPOINT`` each, the transport up to the first colon.
        providers: ``MODULE:ATTRIBUTE`` or a plugin's name each.
        transports: the transport plugins by name.

    Raises:
        ConfigurationError: with every problem found.
    """
    settings = []
    problems: list[Problem] = []
    tables = [{"listen": [_split(spec)]} for spec in listen] + [
        {"provider": [{"use": use}]} for use in providers
    ]
    said = [f"--listen {spec}" for spec in listen] + [f"--provider {use}" for use in providers]
    for table, words in zip(tables, said, strict=True):
        merged = Merged()
        merged.add(Source(words, "", table))
        try:
            settings.append(interpret(merged, transports))
        except ConfigurationError as error:
            problems += [msgspec.structs.replace(one, line=0, key="") for one in error.problems]
    if problems:
        raise ConfigurationError(problems)
    return Settings(
        listen=tuple(
            msgspec.structs.replace(one, name=f"{one.transport}-{number}", key=f"--listen {spec}")
            for number, (one, spec) in enumerate(
                zip((one for each in settings for one in each.listen), listen, strict=True), 1
            )
        ),
        providers=tuple(
            msgspec.structs.replace(one, key=f"--provider {one.use}")
            for each in settings
            for one in each.providers
        ),
    )


def _split(spec: str) -> dict[str, str]:
    transport, colon, endpoint = spec.partition(":")
    return {"transport": transport, "endpoint": endpoint} if colon else {"transport": transport}
