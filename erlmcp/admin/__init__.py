"""The operator's way in: a unix socket on which a running daemon answers, to its own user and root alone."""

from erlmcp.admin._ask import SOCKET, AdminError, ask
from erlmcp.admin._report import as_text
from erlmcp.admin._service import AdminService

__all__ = ["SOCKET", "AdminError", "AdminService", "as_text", "ask"]
