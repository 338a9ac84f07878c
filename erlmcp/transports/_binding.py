"""Listening on a Twisted endpoint description, with an error that an operator can act on.

Shared by the transports that listen. What a description may say is Twisted's; defaults that are too open or
too narrow for a daemon (a unix socket for everyone, a backlog of 50) are replaced here.
"""

import difflib
import errno
import os
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet import endpoints, tcp, unix
from twisted.internet.defer import Deferred, fail, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure

from erlmcp.transports._stale import clear_stale

log = Logger()

_FORMS: Mapping[str, str] = {
    "tcp": "tcp:PORT:interface=ADDRESS",
    "tcp6": "tcp6:PORT:interface=ADDRESS",
    "tls": "tls:DIRECTORY-OF-PEM-FILES:PORT:interface=ADDRESS",
    "ssl": "ssl:PORT:privateKey=FILE:certKey=FILE:interface=ADDRESS",
    "unix": "unix:PATH:mode=600",
    "systemd": "systemd:domain=INET:name=NAME",
    "haproxy": "haproxy:tcp:PORT:interface=ADDRESS",
}
# The parameters of each type in the order in which a description may give them without their name.
_PARAMETERS: Mapping[str, tuple[str, ...]] = {
    "tcp": ("port", "interface", "backlog"),
    "tcp6": ("port", "backlog", "interface"),
    "tls": ("path", "port", "backlog", "interface"),
    "ssl": ("port", "privateKey", "certKey", "sslmethod", "interface", "backlog"),
    "unix": ("address", "mode", "backlog", "lockfile"),
}
_DEFAULTS: Mapping[str, str] = {"mode": "600", "backlog": "1024"}
_PART = re.compile(r"((?:\\.|[^:\\])*)(?::|$)", re.DOTALL)
_NAME = re.compile(r"((?:\\.|[^=\\])*)=", re.DOTALL)
_WRAPPER = "haproxy:"
_server_from_string: Callable[[Any, str], IStreamServerEndpoint] = endpoints.serverFromString


class BindError(Exception):
    """A listener could not be opened. Its text names the endpoint and the reason.

    Attributes:
        endpoint: the description, as it was configured.
        reason: what is wrong with it, or what the system said.
    """

    def __init__(self, endpoint: str, reason: str) -> None:
        super().__init__(f"cannot listen on {endpoint!r}: {reason}")
        self.endpoint = endpoint
        self.reason = reason


class EndpointError(BindError, ValueError):
    """There can be no such endpoint: unknown type or parameter, or an unusable key or certificate."""


def bind(reactor: Any, description: str, factory: IProtocolFactory) -> Deferred[IListeningPort]:
    """Listen on what `description` says.

    Args:
        reactor: what the endpoint is made with (IReactorTCP and the like).
        description: as `twisted.internet.endpoints.serverFromString` reads it.
        factory: makes the protocols.

    Returns:
        The port; fails with `BindError`.
    """
    try:
        endpoint = parse(reactor, description)
    except BindError as error:
        return fail(error)
    return listen(endpoint, description, factory)


def parse(reactor: Any, description: str) -> IStreamServerEndpoint:
    """Make the endpoint; keys and certificates are read, nothing is opened.

    Raises:
        EndpointError: there can be no such endpoint.
    """
    inner = description.removeprefix(_WRAPPER)
    kind = inner.partition(":")[0]
    if kind == "stdio":
        raise EndpointError(description, "standard input is a transport of its own (transport = 'stdio')")
    try:
        if kind == "tls":
            _require_pem_files(inner)
        endpoint = _server_from_string(reactor, with_defaults(inner))
        if kind == "tls":
            _require_certificate(endpoint)
        if inner != description:
            endpoint = _server_from_string(reactor, with_defaults(description))
    except Exception as error:
        # Endpoint parsers are plugins: they raise what they like.
        colons = r"; a colon within a value is written \:" if "::" in description else ""
        raise EndpointError(description, _explain(kind, error) + colons) from error
    return endpoint


def listen(
    endpoint: IStreamServerEndpoint, description: str, factory: IProtocolFactory
) -> Deferred[IListeningPort]:
    """Listen on a parsed endpoint; fails with `BindError`."""

    def name_it(failure: Failure) -> IListeningPort:
        raise BindError(description, _reason(failure.value)) from failure.value

    path = _unix_path(description)
    if path is not None:
        clear_stale(path)
    listening = endpoint.listen(factory)
    if description.removeprefix(_WRAPPER).startswith("systemd:"):
        listening.addCallback(_not_ours)
    return listening.addErrback(name_it)


def _unix_path(description: str) -> str | None:
    kind, *rest = split(description.removeprefix(_WRAPPER))
    if kind[1] != "unix":
        return None
    return next((value for name, value in rest if name in (None, "address")), None)


def _not_ours(port: Any) -> Any:
    """Leave the path of an inherited unix socket: Twisted would remove it, and nobody could connect again."""
    if isinstance(port, unix.Port):
        port.connectionLost = partial(tcp.Port.connectionLost, port)  # type: ignore[method-assign]
    return port


def unlisten(port: IListeningPort | None) -> Deferred[None]:
    """Stop listening. A unix socket that may not be removed stays behind, which is worth a line and no more."""

    def left(failure: Failure) -> None:
        failure.trap(OSError)
        log.warn("{port} is not removed: {why}", port=port, why=failure.getErrorMessage())  # noqa: G010 - Twisted's

    stopped: Deferred[Any] = maybeDeferred(lambda: None if port is None else port.stopListening())
    return stopped.addCallbacks(lambda _: None, left)


def with_defaults(description: str) -> str:
    """The description with a daemon's defaults for what it does not say.

    Unix sockets get mode 0600 (Twisted's own default is 0666); all get a longer backlog.
    """
    parts = split(description.removeprefix(_WRAPPER))
    known = _PARAMETERS.get(parts[0][1], ())
    given = {name for name, _ in parts[1:] if name is not None}
    given.update(known[: sum(name is None for name, _ in parts[1:])])
    missing = [name for name in known if name in _DEFAULTS and name not in given]
    return ":".join([description, *(f"{name}={_DEFAULTS[name]}" for name in missing)])


def split(description: str) -> list[tuple[str | None, str]]:
    r"""The parts of a description: its type, then its arguments, each as (name or None, value).

    A backslash takes the next character literally, as Twisted has it: ``unix:/run/a\:b`` has two parts.

    Raises:
        ValueError: nothing follows the last backslash.
    """
    parts: list[tuple[str | None, str]] = []
    position = 0
    while match := _PART.match(description, position):
        text = match[1]
        name = _NAME.match(text)
        parts.append((_plain(name[1]), _plain(text[name.end() :])) if name else (None, _plain(text)))
        position = match.end()
        if position == match.end(1):
            return parts
    raise ValueError("it ends in the middle of an escape (a backslash)")


def _plain(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL)


def _require_pem_files(description: str) -> None:
    values = [value for name, value in split(description)[1:] if name in (None, "path")]
    if not values:
        raise ValueError("it names no directory")
    path = Path(values[0])
    if not path.exists():
        raise ValueError(f"there is no file or directory {values[0]!r}")
    files = [path] if path.is_file() else path.rglob("*.pem")
    if not any(file.suffix == ".pem" for file in files):
        raise ValueError(f"{values[0]!r} has no file whose name ends with .pem")


def _require_certificate(endpoint: Any) -> None:
    # Twisted listens even with no certificate to show, and then fails every handshake.
    endpoint.connectionCreator.serverConnectionForTLS(None).get_context().check_privatekey()


def _form(kind: str) -> str:
    return f"such an endpoint looks like {_FORMS[kind]}"


def _explain(kind: str, error: Exception) -> str:
    if isinstance(error, OSError) and error.filename:
        return f"{_reason(error)} {error.filename!r}"
    if isinstance(error, OSError) or _is_openssl(error):
        return _reason(error)
    if kind in _FORMS:
        return f"{_plainly(error)}; {_form(kind)}"
    if not str(error).startswith("Unknown endpoint type"):
        return _plainly(error)
    near = difflib.get_close_matches(kind, _FORMS, 1)
    meant = f"did you mean {near[0]!r}? K" if near else "k"
    return f"unknown endpoint type {kind!r}; {meant}nown are {', '.join(_FORMS)}"


def _plainly(error: Exception) -> str:
    """What a parser meant, without the name of the function that said it."""
    text = str(error) or type(error).__name__
    if isinstance(error, TypeError):
        text = re.sub(r"^[\w.]+\(\) ", "", text).replace("argument", "parameter")
    if isinstance(error, (KeyError, IndexError)):
        text = f"systemd passed no such socket ({text})"
    return text


def _is_openssl(error: BaseException | None) -> bool:
    return type(error).__module__.startswith("OpenSSL")


def _reason(error: BaseException | None) -> str:
    if isinstance(error, CannotListenError):
        error = error.socketError if isinstance(error.socketError, BaseException) else error
    if isinstance(error, OSError) and error.errno is not None:
        text = error.strerror or os.strerror(error.errno)
        return f"{text} (something else listens there)" if error.errno == errno.EADDRINUSE else text
    if isinstance(error, CannotListenError):
        return str(error.socketError)
    if error is not None and _is_openssl(error):
        found = error.args[0] if error.args and isinstance(error.args[0], list) else []
        said = ", ".join(str(entry[-1]) for entry in found) or "OpenSSL gives no reason"
        return (
            f"the key or certificate cannot be used ({said}): needed are a private key in PEM form and its"
            " certificate, which for tls: names its hosts in subjectAltName"
        )
    return str(error) or type(error).__name__
