"""What an upstream is shown of us, and on whose behalf: static secrets, client credentials, exchanged tokens.

A client's own credentials are never among it. A principal's token that is exchanged goes to the authorization server
that the configuration names, and what comes back goes to the upstream.
"""

import json
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from twisted.internet.defer import Deferred, succeed

from erlmcp.client.oauth import (
    LOOPBACK,
    AnyGrant,
    Authorization,
    AuthorizationError,
    ClientCredentials,
    CredentialStore,
    Fetch,
    GuardedFetch,
    MemoryStore,
    SigningKey,
    StaticToken,
    TokenExchange,
)
from erlmcp.config import CredentialSettings, OAuthSettings, Secret, check_header_value, is_loopback
from erlmcp.interfaces import Principal
from erlmcp.web import Tls

_PRINCIPALS: Final = 1000

Subject = Callable[[Principal], str | Awaitable[str]]
"""Gives the token that a principal authenticated with, to be exchanged; empty if it brought none. Where that fails it
raises `AuthorizationError`.

A principal does not carry its token, so that no log line, receipt or message to another process has it: whoever
authenticates keeps it, for as long as a request of the principal is under way.
"""


class UpstreamCredentials:
    """The credentials towards one upstream.

    Args:
        upstream: its name, for errors.
        settings: what the configuration says.
        url: where it is, for an HTTP upstream; empty for the others.
        reactor: tells the time, and connects to the authorization server.
        fetch: asks the authorization server; None for a pool of its own, which reaches public addresses, what
            `OAuthSettings.allow` names, and the loopback if the upstream is there.
        tls: whom to believe, where the platform's roots are not enough.
        subject: gives the tokens that are exchanged.
        store: keeps tokens; without one they are kept in memory.
        principals: for so many at most tokens are kept at hand; the one longest unused goes.

    Raises:
        ValueError: a secret cannot be read, or something is set that this upstream has no use for.

    Attributes:
        per_principal: whether different principals are shown as different ones.
        extensions: the MCP extensions that the way to tokens belongs to, for the capabilities that are declared.
    """

    def __init__(
        self,
        upstream: str,
        settings: CredentialSettings,
        *,
        reactor: Any,
        url: str = "",
        fetch: Fetch | None = None,
        tls: Tls | None = None,
        subject: Subject | None = None,
        store: CredentialStore | None = None,
        principals: int = _PRINCIPALS,
    ) -> None:
        self._name = upstream
        self._settings = settings
        self._reactor = reactor
        self._url = url
        self._subject = subject
        self._store: CredentialStore = store or MemoryStore()
        self._most = principals
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._shared: Authorization | None = None
        self._own: GuardedFetch | None = None
        self._check()
        oauth = settings.oauth
        self.per_principal = oauth is not None and oauth.grant == "token_exchange"
        self.extensions: tuple[str, ...] = ()
        self._headers = {name: _header(name, _read(value)) for name, value in settings.headers.items()}
        self.environment()
        if fetch is None and oauth is not None:
            fetch = self._own = GuardedFetch(reactor, allow=_allowed(oauth, url), tls=tls)
        self._fetch: Fetch = fetch or _no_fetch
        self._secret, self._key = ("", None) if oauth is None else _proof(oauth)
        grant = self._shared_grant()
        if grant is not None:
            self._shared = self._authorization(grant, "")
            self.extensions = self._shared.extensions

    def authorizer(self, principal: Principal) -> Authorization | None:
        """What authorizes requests on behalf of a principal; the same for the same `context`, and None for nothing."""
        if not self.per_principal:
            return self._shared
        context = self.context(principal)
        known = self._known.get(context)
        if known is None:
            known = self._known[context] = _Known(principal)
            known.authorization = self._authorization(self._exchange(known), context)
            if len(self._known) > self._most:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(context)
            if known.principal != principal:  # it has authenticated again
                known.principal = principal
                known.authorization.retry()
        return known.authorization

    def context(self, principal: Principal) -> str:
        """The authorization context: what is answered in one of them is not shown in another.

        Empty for all principals where the upstream cannot tell them apart.
        """
        if not self.per_principal:
            return ""
        return json.dumps(
            [
                principal.kind,
                principal.tenant,
                principal.id,
                sorted(principal.roles),
                sorted(principal.scopes),
            ]
        )

    def headers(self) -> dict[str, str]:
        """Header fields for each request."""
        return dict(self._headers)

    def environment(self) -> dict[str, str]:
        """Variables for a child process. The secrets are read anew, so that one that is replaced serves the next child.

        Raises:
            ValueError: one of them cannot be read.
        """
        return {name: _variable(name, _read(value)) for name, value in self._settings.env.items()}

    def close(self) -> Deferred[None]:
        """Let go of the connections to the authorization server."""
        return succeed(None) if self._own is None else self._own.close()

    def _check(self) -> None:
        settings = self._settings
        if not self._url and (settings.headers or settings.token or settings.oauth):
            raise ValueError(f"upstream {self._name}: headers, token and oauth are for an HTTP upstream")
        if self._url and settings.env:
            raise ValueError(
                f"upstream {self._name}: env is for an upstream that is started as a child process"
            )
        if settings.oauth is not None and settings.oauth.grant == "token_exchange" and self._subject is None:
            raise ValueError(
                f"upstream {self._name}: token_exchange needs callers that authenticate with a token, "
                "and nothing here takes tokens"
            )

    def _shared_grant(self) -> AnyGrant | None:
        token, oauth = self._settings.token, self._settings.oauth
        if token is not None:
            _read(token)
            return StaticToken(lambda: _read_again(token))
        if oauth is None or self.per_principal:
            return None
        return ClientCredentials(
            scopes=oauth.scopes,
            dpop=oauth.dpop,
            issuer=oauth.issuer,
            client_id=oauth.client_id,
            client_secret=self._secret,
            key=self._key,
            auth_method=oauth.auth_method,
        )

    def _exchange(self, known: "_Known") -> TokenExchange:
        oauth, subject = self._settings.oauth, self._subject
        assert oauth is not None  # noqa: S101 - `per_principal` has looked
        assert subject is not None  # noqa: S101 - `_check` has looked
        return TokenExchange(
            scopes=oauth.scopes,
            dpop=oauth.dpop,
            issuer=oauth.issuer,
            subject_token=lambda: subject(known.principal),
            audience=oauth.audience,
            client_id=oauth.client_id,
            client_secret=self._secret,
            key=self._key,
            auth_method=oauth.auth_method,
        )

    def _authorization(self, grant: AnyGrant, principal: str) -> Authorization:
        return Authorization(
            self._url,
            grant,
            fetch=self._fetch,
            clock=self._reactor,
            store=self._store,
            principal=principal,
            eager=True,
        )


class _Known:
    """A principal of whom there have been requests, as it authenticated last."""

    __slots__ = ("authorization", "principal")

    authorization: Authorization

    def __init__(self, principal: Principal) -> None:
        self.principal = principal


def _proof(oauth: OAuthSettings) -> tuple[str, SigningKey | None]:
    if oauth.client_secret is not None:
        return _read(oauth.client_secret), None
    assert oauth.private_key is not None  # noqa: S101 - the settings have looked
    return "", SigningKey(_read(oauth.private_key), oauth.algorithm, oauth.key_id)


def _allowed(oauth: OAuthSettings, url: str) -> tuple[str, ...]:
    near = is_loopback(urlsplit(url).hostname or "")
    return (*oauth.allow, *LOOPBACK) if near else oauth.allow


def _read(value: str | Secret) -> str:
    if isinstance(value, str):
        return value
    try:
        text = value.read().decode().strip()
    except UnicodeDecodeError:
        raise ValueError(f"{_where(value)} is no text") from None
    if not text:
        raise ValueError(f"{_where(value)} is empty")
    return text


def _read_again(secret: Secret) -> str:
    try:
        return _read(secret)
    except ValueError as error:
        raise AuthorizationError(str(error), transient=True) from None


def _where(secret: Secret) -> str:
    named: Mapping[str, str | None] = {
        "file": secret.file,
        "env": secret.env,
        "credential": secret.credential,
    }
    return next(f"the secret {{ {kind} = {place!r} }}" for kind, place in named.items() if place)


def _header(name: str, value: str) -> str:
    check_header_value(name, value)
    return value


def _variable(name: str, value: str) -> str:
    if "\0" in value:
        raise ValueError(f"env: the value of {name} has a NUL in it, which no variable can have")
    return value


async def _no_fetch(method: str, url: str, **_: Any) -> Any:
    raise AssertionError(f"{method} {url}: a static credential asks nobody")
