"""The way to one upstream, with the credentials that it is shown: a target for each authorization context."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from erlmcp.client import Target, http, stdio, stream
from erlmcp.config import UpstreamSettings
from erlmcp.gateway._credentials import UpstreamCredentials
from erlmcp.interfaces import Principal
from erlmcp.processes import UNCONFINED, Confinement, Grace
from erlmcp.web import Pool, Tls

_MOST = 1000
"""Authorization contexts whose targets are at hand."""
_PATIENT = 24 * 3600.0


class Access(Protocol):
    """The way to one upstream."""

    def target(self, principal: Principal) -> Target:
        """The way there for a principal; the same for the same `context`."""

    def context(self, principal: Principal) -> str:
        """The principal's authorization context there; empty where all share one."""

    def close(self) -> Deferred[None]:
        """Let go of what was made for it."""


class HttpAccess:
    """An upstream at a URL.

    Args:
        reactor: what it runs on.
        settings: the upstream's.
        tls: what is asked of TLS; None for what the platform trusts.
    """

    def __init__(self, reactor: Any, settings: UpstreamSettings, tls: Tls | None) -> None:
        self._reactor = reactor
        self._url = settings.url or ""
        self._credentials = UpstreamCredentials(
            settings.name, settings.credentials, reactor=reactor, url=self._url, tls=tls
        )
        self._pool = Pool(
            reactor,
            http2=settings.http2,
            tls=tls,
            connections_per_origin=settings.connections,
            response_head_timeout=_PATIENT,
        )
        self._targets: OrderedDict[str, Target] = OrderedDict()

    def target(self, principal: Principal) -> Target:
        """See `Access`."""
        context = self.context(principal)
        target = self._targets.get(context)
        if target is None:
            target = self._targets[context] = http(
                self._reactor,
                self._url,
                pool=self._pool,
                authorization=self._credentials.authorizer(principal),
                headers=self._credentials.headers(),
            )
            if len(self._targets) > _MOST:
                self._targets.popitem(last=False)
        return target

    def context(self, principal: Principal) -> str:
        """See `Access`."""
        return self._credentials.context(principal)

    def close(self) -> Deferred[None]:
        """See `Access`."""
        return Deferred.fromCoroutine(self._close())

    async def _close(self) -> None:
        await self._pool.close()
        await self._credentials.close()


class StreamAccess:
    """An upstream that speaks lines at an endpoint.

    Args:
        reactor: what it runs on.
        settings: the upstream's.
    """

    def __init__(self, reactor: Any, settings: UpstreamSettings) -> None:
        self._target = stream(reactor, settings.endpoint or "")

    def target(self, principal: Principal) -> Target:
        """See `Access`."""
        del principal
        return self._target

    def context(self, principal: Principal) -> str:
        """See `Access`."""
        del principal
        return ""

    def close(self) -> Deferred[None]:
        """See `Access`."""
        return Deferred.fromCoroutine(self._close())

    async def _close(self) -> None:
        await self._target.close()


class ChildAccess:
    """An upstream in child processes of ours.

    Args:
        reactor: what it runs on.
        name: what they are called in logs.
        argv: what they run.
        cwd: the folder they run in.
        credentials: their variables.
        sandbox: how they are confined.
        grace: how they are ended; None for the usual.
    """

    def __init__(
        self,
        reactor: Any,
        name: str,
        argv: Sequence[str],
        *,
        cwd: str | None = None,
        credentials: UpstreamCredentials | None = None,
        env: dict[str, str] | None = None,
        sandbox: Confinement = UNCONFINED,
        grace: Grace | None = None,
    ) -> None:
        self._reactor = reactor
        self._name = name
        self._argv = tuple(argv)
        self._cwd = cwd
        self._credentials = credentials
        self._env = env or {}
        self._sandbox = sandbox
        self._grace = grace

    def target(self, principal: Principal) -> Target:
        """See `Access`. Secrets are read anew, so that one that is replaced serves the next child."""
        del principal
        env = self._env if self._credentials is None else {**self._env, **self._credentials.environment()}
        return stdio(
            self._reactor,
            self._argv,
            name=self._name,
            env=env,
            cwd=self._cwd,
            sandbox=self._sandbox,
            grace=self._grace,
        )

    def context(self, principal: Principal) -> str:
        """See `Access`."""
        del principal
        return ""

    def close(self) -> Deferred[None]:
        """See `Access`."""
        return Deferred.fromCoroutine(self._close())

    async def _close(self) -> None:
        if self._credentials is not None:
            await self._credentials.close()
