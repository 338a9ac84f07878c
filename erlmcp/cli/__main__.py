"""``python -m erlmcp.cli``: the command where no script is installed."""

import sys

from erlmcp.cli import main

sys.exit(main())
