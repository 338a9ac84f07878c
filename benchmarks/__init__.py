"""Side-by-side measurements of erlmcp and its peers: ``python -m benchmarks``."""
