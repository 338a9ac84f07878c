"""Other MCP servers as backends: pooled, translated between the eras, merged under names of their own."""
