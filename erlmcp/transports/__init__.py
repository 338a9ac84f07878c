"""How messages come in: the transports of the house, plugins like anyone else's, and what they share."""

from erlmcp.transports._binding import BindError, EndpointError, bind

__all__ = ["BindError", "EndpointError", "bind"]
