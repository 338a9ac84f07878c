"""Providers to learn from. `erlmcp.examples.demo` is what the daemon serves when it is told nothing else."""
