"""Bounded pools. Here live the threads that plain functions run in."""

from erlmcp.pool._threads import QueueFull, ThreadPool

__all__ = ["QueueFull", "ThreadPool"]
