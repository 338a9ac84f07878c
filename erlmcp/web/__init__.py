"""An HTTP client of our own: 1.1 and 2, pooled, usable without MCP."""
