"""``erlmcp key new``."""

import argparse


def run(options: argparse.Namespace) -> int:
    """Print a key."""
    from erlmcp.config import new_key

    del options
    print(new_key())
    return 0
