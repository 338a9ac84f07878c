"""Finding transports and providers among Twisted's plugins."""

import contextlib
import difflib
import traceback
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any

from twisted.plugin import getCache, getPlugins
from zope.interface import Interface

import twisted.plugins
from erlmcp.config._problems import ConfigurationError, Problem, nearest
from erlmcp.interfaces import IBackend, IProvider, ITransport


def found(interface: type[Interface], plugins: Callable[[Any], Iterable[Any]] = getPlugins) -> dict[str, Any]:
    """The plugins that provide an interface, by name.

    Raises:
        ConfigurationError: two have the same name.
    """
    by_name: dict[str, Any] = {}
    problems = []
    for plugin in plugins(interface):
        other = by_name.setdefault(plugin.name, plugin)
        if other is not plugin:
            wrong = f"two plugins are named {plugin.name!r}: {other!r} and {plugin!r}"
            problems.append(
                Problem(wrong=wrong, right="uninstall one of them (erlmcp plugins says where they are)")
            )
    if problems:
        raise ConfigurationError(problems)
    return by_name


def transports() -> dict[str, Any]:
    """The transport plugins, by name."""
    return found(ITransport)


def providers() -> dict[str, Any]:
    """The provider plugins, by name."""
    return found(IProvider)


def declared(interface: type[Interface], package: Any = twisted.plugins) -> list[tuple[str, str]]:
    """The names of the plugins that provide an interface, each with the module that declares it, sorted."""
    rows = []
    for dropin in getCache(package).values():
        for cached in dropin.plugins:
            if interface in cached.provided:
                with contextlib.suppress(
                    Exception
                ):  # a broken plugin is logged by `getPlugins`, which leaves it out
                    rows.append((str(cached.load().name), dropin.moduleName))
    return sorted(rows)


def backend(use: str, options: Mapping[str, Any], plugins: Mapping[str, Any]) -> Any:
    """Make the backend that a ``[[provider]]`` names.

    Args:
        use: ``MODULE:ATTRIBUTE`` of a provider (any `IBackend` or `IProvider`), or a plugin's name.
        options: its own configuration table.
        plugins: the provider plugins by name.

    Raises:
        ValueError: there is no such thing, or it cannot be made; the message says which and why.
    """
    provider = _imported(use) if ":" in use else plugins.get(use)
    if provider is None:
        raise ValueError(
            f"no provider plugin is named {use!r}; {nearest(use, plugins)}; a provider in a module is named"
            " MODULE:ATTRIBUTE"
        )
    if IProvider.providedBy(provider):
        try:
            made = provider.backend(options)
        except Exception as error:
            raise ValueError(
                f"the provider {use!r} could not be made: {type(error).__name__}: {error}"
            ) from error
        if not IBackend.providedBy(made):
            raise ValueError(f"the provider {use!r} made {made!r}, which is no IBackend")
        return made
    if not IBackend.providedBy(provider):
        raise ValueError(
            f"{use} is {provider!r}, which is neither a Provider nor anything else that answers requests"
        )
    if options:
        raise ValueError(f"{use} is a ready-made provider and takes no options")
    return provider


def _imported(use: str) -> Any:
    module_name, _, attribute = use.partition(":")
    try:
        value: Any = import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module_name}.".startswith(f"{error.name}."):
            raise ValueError(
                f"there is no module {error.name!r}: it is neither installed nor in a folder of $PYTHONPATH"
                " (PYTHONPATH=. is where you are)"
            ) from None
        raise ValueError(
            f"the module {module_name!r} needs {error.name!r}, which is not installed"
        ) from error
    except (Exception, SystemExit) as error:
        # An exit would be taken for the daemon's own, of whatever status.
        raise ValueError(
            f"the module {module_name!r} fails on import: {type(error).__name__}: {error}{_where(error)}"
        ) from error
    for part in attribute.split("."):
        try:
            value = getattr(value, part)
        except AttributeError:
            names = [name for name in dir(value) if not name.startswith("_")]
            near = difflib.get_close_matches(part, names, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ValueError(f"the module {module_name!r} has no attribute {attribute!r}{hint}") from None
    return value


def _where(error: BaseException) -> str:
    """The line of a module that raised it; a syntax error says that itself."""
    if isinstance(error, SyntaxError) or error.__traceback__ is None:
        return ""
    lines = [
        one for one in traceback.extract_tb(error.__traceback__) if not one.filename.startswith("<frozen")
    ]
    # The first is where it was imported here.
    return f" ({lines[-1].filename}, line {lines[-1].lineno})" if len(lines) > 1 else ""
