"""An MCP client for Twisted: any server, either era, over any transport."""
