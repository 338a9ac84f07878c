"""What a backend was made of, in a few characters: whether another configuration asks for the same one."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from erlmcp.config import ProviderSettings, Secret, Settings, UpstreamSettings


def provider_mark(one: ProviderSettings, settings: Settings) -> str:
    """The mark of a provider.

    Args:
        one: its table.
        settings: the configuration.
    """
    plain = msgspec.structs.replace(one, key="")
    if one.isolation == "inline":
        return _digest("provider", plain.use, plain.options)
    return _digest("provider", plain, _common(settings))


def upstream_mark(one: UpstreamSettings, settings: Settings, accepted: Any) -> str:
    """The mark of an upstream. Files that its table names count by what is in them.

    Args:
        one: its table.
        settings: the configuration.
        accepted: how its tools were when somebody accepted them, as read just now; None if they are not pinned.
    """
    trusted = b""
    with suppress(OSError):
        trusted = Path(one.trust).read_bytes() if one.trust else b""
    plain = msgspec.structs.replace(one, key="")
    rest = (*_common(settings), settings.limits.session_idle)
    return _digest("upstream", plain, rest, accepted, trusted, list(_secrets(one.credentials)))


def _common(settings: Settings) -> tuple[Any, ...]:
    """What of the rest of a configuration upstreams are made of."""
    limits = settings.limits
    bounds = (limits.message, limits.depth, limits.keys, limits.string)
    return (settings.server.name, settings.server.version, *bounds)


def _secrets(found: Any) -> Iterator[bytes]:
    """What the secrets of a table are now; what cannot be read is as good as anything else that is not the same."""
    if isinstance(found, Secret):
        try:
            yield found.read()
        except ValueError as error:
            yield str(error).encode()
    elif isinstance(found, msgspec.Struct):
        for name in found.__struct_fields__:
            yield from _secrets(getattr(found, name))
    elif isinstance(found, Mapping):
        for key in sorted(found):
            yield from _secrets(found[key])


def _digest(*parts: Any) -> str:
    """Of secrets nothing is kept but this."""
    return hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).hexdigest()


def marks(settings: Settings, backends: Sequence[Any]) -> list[str]:
    """The marks of all backends of a configuration.

    Args:
        settings: the configuration.
        backends: what it was made into, in its order: providers first.
    """
    count = len(settings.providers)
    return [
        *(provider_mark(one, settings) for one in settings.providers),
        *(
            upstream_mark(one, settings, backend.plan.accepted)
            for one, backend in zip(settings.upstreams, backends[count:], strict=True)
        ),
    ]
