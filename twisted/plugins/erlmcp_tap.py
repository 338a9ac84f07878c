"""``twistd erlmcp``."""

from twisted.application.service import ServiceMaker

service_maker = ServiceMaker("erlmcp", "erlmcp.tap", "The MCP server that you run like a daemon.", "erlmcp")
