"""What is there once the daemon serves, is there for good: Python's collector need not look at it again.

Modules, schemas and tables are some hundred thousand objects; a full collection that walks them takes 30 ms in which
nobody is answered, and comes every few thousand calls. Frozen, they are passed over.
"""

import gc
from typing import Final

_YOUNG: Final = 5000


def set_apart() -> None:
    """Take all objects that there are now out of the collector's sight, after it has looked at them once more.

    For a process that serves and does nothing else: what is garbage now and in a cycle is gone, but what becomes
    garbage of the rest later, and is in a cycle, stays.
    """
    gc.collect()
    gc.freeze()
    # Calls under way come and go: by the default of 700 it is they that make the collector look, and find nothing.
    gc.set_threshold(_YOUNG, 20, 20)
