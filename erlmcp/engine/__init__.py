"""State that is shared: the embedded engine, in this process's memory, with a file for what must outlive a restart.

Another process of the same daemon has a `RemoteEngine`, which an `EngineHost` answers.
"""

from erlmcp.engine._bounds import Bounds
from erlmcp.engine._embedded import EmbeddedEngine
from erlmcp.engine._file import FILE_NAME, EngineFileError, inspect
from erlmcp.engine._host import EngineHost, Guest
from erlmcp.engine._remote import RemoteEngine

__all__ = [
    "FILE_NAME",
    "Bounds",
    "EmbeddedEngine",
    "EngineFileError",
    "EngineHost",
    "Guest",
    "RemoteEngine",
    "inspect",
]
