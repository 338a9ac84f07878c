"""The transports that come with erlmcp."""

from erlmcp.transports import DeclaredTransport

tcp = DeclaredTransport("tcp", "erlmcp.transports:TcpTransport")
stdio = DeclaredTransport("stdio", "erlmcp.transports:StdioTransport")
http = DeclaredTransport("http", "erlmcp.transports.http:HttpTransport")
