"""Secrets: never in the configuration itself, only where they are."""

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec


class Secret(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a secret is; exactly one of the three is set.

    Attributes:
        file: a path.
        env: the name of an environment variable.
        credential: a name in systemd's credentials directory (``LoadCredential=``).
    """

    file: str | None = None
    env: str | None = None
    credential: str | None = None

    def __post_init__(self) -> None:
        given = [name for name in (self.file, self.env, self.credential) if name]
        if len(given) != 1:
            raise ValueError("expected exactly one of file, env, credential")

    def read(self, environ: Mapping[str, str] = os.environ) -> bytes:
        """The secret itself.

        Raises:
            ValueError: it cannot be had; the message says where it was looked for and never what it is.
        """
        if self.env:
            value = environ.get(self.env)
            if value is None:
                raise ValueError(f"the environment has no variable {self.env}")
            return value.encode()
        if self.file:
            path = Path(self.file)
        else:
            folder = environ.get("CREDENTIALS_DIRECTORY")
            if not folder:
                raise ValueError(
                    f"there is no credential {self.credential}: $CREDENTIALS_DIRECTORY is not set;"
                    " systemd sets it for a unit with LoadCredential="
                )
            path = Path(folder, str(self.credential))
        try:
            return path.read_bytes()
        except OSError as error:
            raise ValueError(f"{path} cannot be read: {error.strerror}") from None
