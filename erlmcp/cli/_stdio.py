"""``erlmcp stdio``: one client, on the streams that its host gave to this process."""

import argparse
import sys
from pathlib import Path


def run(options: argparse.Namespace) -> int:
    """Serve until standard input ends."""
    from erlmcp.transports import claim_standard_streams

    # First of all: an import of a provider may print already, and what it prints must not reach the client.
    try:
        claim_standard_streams()
    except OSError as error:
        print(f"erlmcp stdio: standard input or output is closed: {error.strerror}", file=sys.stderr)
        return 1
    return serve(options)


def serve(options: argparse.Namespace) -> int:
    """Serve on streams that are claimed."""
    from erlmcp.telemetry import log_to

    log_to(sys.stderr, options.log_level)
    # Only now, when nothing that an import prints can reach the client any more.
    from erlmcp.tap import StartFailed, serve_stdio

    try:
        serve_stdio(
            None if options.config is None else Path(options.config),
            options.provider,
            options.options,
            options.view,
            isolated=options.isolated,
        )
    except StartFailed as error:
        print(f"erlmcp stdio: {error}", file=sys.stderr)
        return 1
    return 0
