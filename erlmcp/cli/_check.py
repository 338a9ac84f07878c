"""``erlmcp check``."""

import argparse
import sys
from pathlib import Path

from erlmcp.tap import examine


def run(options: argparse.Namespace) -> int:
    """Check a file; print every problem on standard error."""
    findings = examine(Path(options.file))
    for note in findings.notes:
        print(note)
    for problem in findings.problems:
        print(problem, file=sys.stderr)
    count = len(findings.problems)
    if count:
        print(f"{options.file}: {count} problem{'' if count == 1 else 's'}", file=sys.stderr)
        return 1
    print(f"{options.file}: nothing wrong")
    return 0
