"""``erlmcp check``: everything that a start would find wrong, short of opening a port."""

import argparse
import os
import sys
from pathlib import Path

import msgspec

from erlmcp import config, tap


def run(options: argparse.Namespace) -> int:
    """Check a file; print every problem on standard error."""
    try:
        transports = config.transports()
        settings = config.load(Path(options.file), transports)
    except config.ConfigurationError as error:
        return _refuse(options.file, list(error.problems))
    inherited = [one for one in settings.listen if _is_inherited(one.endpoint)]
    for one in inherited:
        print(
            f"{one.key}.endpoint: {one.endpoint} cannot be checked here: systemd passes it to the daemon alone"
        )
    listen = tuple(one for one in settings.listen if one not in inherited)
    problems = _problems(msgspec.structs.replace(settings, listen=listen), transports)
    if problems:
        return _refuse(options.file, problems)
    note = "" if settings.listen else "; it has no [[listen]], so it serves `erlmcp stdio` alone"
    print(f"{options.file}: nothing wrong{note}")
    return 0


def _problems(settings: config.Settings, transports: dict[str, object]) -> list[config.Problem]:
    """What is found when all is put together: providers, keys, endpoints, the reactor."""
    problems: list[config.Problem] = []
    backends: list[object] = []
    try:
        backends = tap.backends_for(settings, config.providers())
        tap.require_reactor(backends)
    except config.ConfigurationError as error:
        problems += error.problems
    except ValueError as error:
        problems.append(config.Problem(wrong=str(error)))
    from twisted.internet import reactor

    try:
        tap.assemble(settings, backends, reactor, transports=transports, environ=os.environ, make_keys=False)
    except config.ConfigurationError as error:
        problems += error.problems
    return problems


def _is_inherited(endpoint: str) -> bool:
    return endpoint.removeprefix("haproxy:").startswith("systemd:") and "LISTEN_FDS" not in os.environ


def _refuse(file: str, problems: list[config.Problem]) -> int:
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"{file}: {len(problems)} problem{'' if len(problems) == 1 else 's'}", file=sys.stderr)
    return 1
