"""Tells Twisted of the frames transport."""

from erlmcp.transports import DeclaredTransport

frames = DeclaredTransport("frames", "erlmcp_frames:FramesTransport")
