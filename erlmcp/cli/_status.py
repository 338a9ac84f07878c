"""``erlmcp status``."""

import argparse
import json
import os
import sys
from pathlib import Path

from erlmcp.admin import AdminError, as_text, ask

DEFAULT = "/run/erlmcp"
NOT_READY = 3


def run(options: argparse.Namespace) -> int:
    """Print the tree of a running daemon; 0 if it is ready, 3 if it is not, 1 if it cannot be asked."""
    folder = options.runtime or os.environ.get("RUNTIME_DIRECTORY", "").split(":")[0] or DEFAULT
    try:
        report = ask(Path(folder), "status")
    except AdminError as error:
        print(f"erlmcp status: {error}", file=sys.stderr)
        return 1
    print(json.dumps(report, indent=2) if options.json else as_text(report))
    return 0 if report["unready"] is None else NOT_READY
