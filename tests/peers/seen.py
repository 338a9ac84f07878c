"""What a client saw, for many tests: its process runs once for all of them, since trial knows no set-up of a class."""

from typing import Any, Protocol


class Runs(Protocol):
    """A class of tests about one run of a client."""

    @classmethod
    def run_client(cls) -> dict[str, Any]:
        """Run the client with all of its scenarios; what each saw, or its ``error``."""


_runs: dict[type[Runs], dict[str, Any] | Exception] = {}


def seen(case: type[Runs], scenario: str) -> dict[str, Any]:
    """What a scenario saw; fails with what it, or the whole run, failed with."""
    if case not in _runs:
        try:
            _runs[case] = case.run_client()
        except Exception as error:
            _runs[case] = error
    results = _runs[case]
    if isinstance(results, Exception):
        raise results
    found: dict[str, Any] = results[scenario]
    if "error" in found:
        raise AssertionError(found["error"])
    return found
