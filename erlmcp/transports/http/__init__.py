"""Streamable HTTP over HTTP/1.1: llhttp parses, a Twisted protocol serves, twisted.web has no part in it."""

from erlmcp.transports.http._transport import HttpOptions, HttpTransport

__all__ = ["HttpOptions", "HttpTransport"]
