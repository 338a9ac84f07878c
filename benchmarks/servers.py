"""How each server under measurement is started."""

import json
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.environments import PEERS, ROOT, python_peer, typescript_peer, versions
from benchmarks.processes import LOAD_CORE, SERVER_CORE, Server, cores, free_port

TWISTD = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()", "-n", "--pidfile="]
ERLMCP = [sys.executable, "-c", "import sys; from erlmcp.cli import main; sys.exit(main())"]
PROVIDER = "benchmarks.peers.erlmcp_echo:provider"
STDIO = [*ERLMCP, "stdio", "--provider", PROVIDER]
_MOVED = (
    "import os, sys; from erlmcp.cli import main; "
    "os.sched_setaffinity(0, {int(sys.argv.pop(1))}); sys.exit(main())"
)
BEHIND = [sys.executable, "-c", _MOVED, str(LOAD_CORE if cores() > 1 else SERVER_CORE), *STDIO[len(ERLMCP) :]]
"""Our stdio server behind a gateway, which starts it: on the core of the load, as the HTTP server behind one."""


class Fleet:
    """Makes servers: the peers from their environments, erlmcp from this checkout.

    Args:
        cache: where environments, logs and a certificate are kept.
    """

    def __init__(self, cache: Path) -> None:
        self.cache = cache
        self.environment = {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}

    def peer_command(self, name: str) -> list[str] | None:
        """A peer's command without its argument, None where it cannot be run here."""
        if name == "typescript":
            return typescript_peer(self.cache)
        environment, script = {
            "sdk-low": ("sdk", "sdk_low.py"),
            "sdk-low-standard": ("sdk-standard", "sdk_low.py"),
            "sdk-high": ("sdk", "sdk_high.py"),
            "fastmcp": ("fastmcp", "fastmcp_echo.py"),
        }[name]
        return [python_peer(environment, self.cache), str(PEERS / script)]

    def peer(self, name: str) -> tuple[Server, int] | None:
        """A peer on a loopback port; None where it cannot be run here."""
        command = self.peer_command(name)
        if command is None:
            return None
        port = free_port()
        return Server([*command, str(port)], self._log(name), ports=[port]), port

    def peer_stdio(self, name: str) -> Server | None:
        """A peer on pipes; None where it cannot be run here."""
        command = self.peer_command(name)
        return None if command is None else Server([*command, "stdio"], self._log(name), pipes=True)

    def daemon(self, *listeners: str) -> tuple[Server, list[int]]:
        """The daemon with one listener for each of ``http``, ``https`` and ``tcp`` that is named."""
        arguments: list[str] = []
        ports = []
        for kind in listeners:
            port = free_port()
            ports.append(port)
            arguments += ["--listen", self._endpoint(kind, port)]
        command = [*TWISTD, "erlmcp", "--provider", PROVIDER, *arguments]
        return Server(command, self._log("erlmcp"), ports=ports, environment=self.environment), ports

    def second(self) -> tuple[Server, tuple[int, int]]:
        """The daemon with HTTP/2, as h2c on the first port and over TLS on the second."""
        plain, secure = free_port(), free_port()
        key, certificate = self._certificate()
        lines = [
            "[[provider]]",
            f'use = "{PROVIDER}"',
            "[[listen]]",
            'transport = "http"',
            f'endpoint = "tcp:{plain}:interface=127.0.0.1"',
            "h2c = true",
            "[[listen]]",
            'transport = "http"',
            f'endpoint = "ssl:{secure}:interface=127.0.0.1:privateKey={key}:certKey={certificate}"',
        ]
        file = self.cache / "second.toml"
        file.write_text("\n".join(lines) + "\n")
        command = [*TWISTD, "erlmcp", "--config", str(file)]
        server = Server(command, self._log("erlmcp"), ports=[plain, secure], environment=self.environment)
        return server, (plain, secure)

    def stdio(self) -> Server:
        """``erlmcp stdio`` on pipes."""
        return Server(STDIO, self._log("erlmcp-stdio"), pipes=True, environment=self.environment)

    def gateway(self, name: str, url: str | None) -> tuple[Server, int]:
        """A gateway that serves HTTP on a loopback port.

        Args:
            name: ``erlmcp``, ``fastmcp`` or ``mcp-proxy``.
            url: the server behind it; None for our own over stdio. mcp-proxy has no HTTP behind its HTTP.
        """
        port = free_port()
        if name == "erlmcp":
            command = [*TWISTD, "erlmcp", "--config", str(self._in_front_of(url, port))]
        elif name == "fastmcp":
            target = [url] if url is not None else BEHIND
            command = [
                python_peer("fastmcp", self.cache),
                str(PEERS / "fastmcp_proxy.py"),
                str(port),
                *target,
            ]
        else:
            proxy = Path(python_peer("mcp-proxy", self.cache)).with_name("mcp-proxy")
            options = [
                "--host",
                "127.0.0.1",
                "--port",
                str(port),
                "--pass-environment",
                "--log-level",
                "ERROR",
            ]
            command = [str(proxy), *options, "--", *BEHIND]
        log = self._log(f"gateway-{name}-{'stdio' if url is None else 'http'}")
        return Server(command, log, ports=[port], environment=self.environment), port

    def gateway_stdio(self, name: str, url: str) -> Server:
        """A gateway on pipes, with an HTTP server behind it."""
        if name == "erlmcp":
            command = [*ERLMCP, "stdio", "--config", str(self._in_front_of(url, None))]
        else:
            proxy = Path(python_peer("mcp-proxy", self.cache)).with_name("mcp-proxy")
            command = [str(proxy), "--transport", "streamablehttp", "--log-level", "ERROR", url]
        return Server(command, self._log(f"gateway-{name}-pipes"), pipes=True, environment=self.environment)

    def _in_front_of(self, url: str | None, port: int | None) -> Path:
        """Our configuration with one upstream, whose names stay as they are."""
        reached = (
            f'transport = "http"\nurl = "{url}"'
            if url is not None
            else (
                f'transport = "stdio"\ncommand = {json.dumps(BEHIND)}\n'
                f"env = {{ PYTHONPATH = {json.dumps(self.environment['PYTHONPATH'])} }}"
            )
        )
        parts = [f'[[upstream]]\nname = "far"\nnames = "none"\n{reached}']
        if port is not None:
            parts.append(f'[[listen]]\ntransport = "http"\nendpoint = "tcp:{port}:interface=127.0.0.1"')
        file = self.cache / f"gateway-{'stdio' if url is None else 'http'}-{port or 'pipes'}.toml"
        file.write_text("\n".join(parts) + "\n")
        return file

    def what(self) -> list[str]:
        """Versions of what is measured."""
        lines = [
            f"erlmcp on Python {sys.version.split()[0]}, {versions(sys.executable, 'twisted', 'httptools')}"
        ]
        lines.append(
            "sdk-low, sdk-high: " + versions(python_peer("sdk", self.cache), "mcp", "uvicorn", "h11")
        )
        standard = python_peer("sdk-standard", self.cache)
        lines.append("sdk-low-standard: " + versions(standard, "mcp", "uvicorn", "uvloop", "httptools"))
        return lines

    def gateways(self) -> str:
        """Versions of the other gateways."""
        fastmcp, proxy = python_peer("fastmcp", self.cache), python_peer("mcp-proxy", self.cache)
        return f"gateways: {versions(fastmcp, 'fastmcp', 'mcp')}; {versions(proxy, 'mcp-proxy', 'mcp')}"

    def _endpoint(self, kind: str, port: int) -> str:
        if kind == "https":
            key, certificate = self._certificate()
            return f"http:ssl:{port}:interface=127.0.0.1:privateKey={key}:certKey={certificate}"
        return f"{kind}:tcp:{port}:interface=127.0.0.1"

    def _certificate(self) -> tuple[Path, Path]:
        key, certificate = self.cache / "key.pem", self.cache / "certificate.pem"
        if not certificate.exists():
            subject = ["-subj", "/CN=localhost", "-days", "30", "-keyout", str(key), "-out", str(certificate)]
            kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
            subprocess.run(
                ["openssl", "req", "-x509", "-nodes", *kind, *subject],
                check=True,
                capture_output=True,
                timeout=60,
            )
        return key, certificate

    def _log(self, name: str) -> Path:
        folder = self.cache / "logs"
        folder.mkdir(exist_ok=True)
        log = folder / f"{name}.log"
        log.write_bytes(b"")
        return log
