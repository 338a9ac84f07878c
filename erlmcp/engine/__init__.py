"""State that is shared: the embedded engine, in this process's memory, with a file for what must outlive a restart."""

from erlmcp.engine._bounds import Bounds
from erlmcp.engine._embedded import EmbeddedEngine
from erlmcp.engine._file import FILE_NAME, EngineFileError, inspect

__all__ = ["FILE_NAME", "Bounds", "EmbeddedEngine", "EngineFileError", "inspect"]
