"""Who wants to hear of changes. One that fails keeps neither the others nor the change from going on."""

from collections.abc import Callable

from twisted.logger import Logger

from erlmcp.interfaces import Change

_log = Logger(namespace="erlmcp.catalog")
Watcher = Callable[[Change], None]


class Watchers:
    """The watchers of one backend, or of a catalog."""

    __slots__ = ("_watchers",)

    def __init__(self) -> None:
        self._watchers: dict[object, Watcher] = {}

    def add(self, watcher: Watcher) -> Callable[[], None]:
        """Tell `watcher` of each change; returns what ends that, which may be called twice."""
        key = object()
        self._watchers[key] = watcher

        def end() -> None:
            self._watchers.pop(key, None)

        return end

    def tell(self, change: Change) -> None:
        """Tell all of them, in the order in which they came."""
        for watcher in list(self._watchers.values()):
            try:
                watcher(change)
            except Exception:  # noqa: BLE001 - a watcher's error is its own
                _log.failure("a watcher failed on {change}", change=change)
