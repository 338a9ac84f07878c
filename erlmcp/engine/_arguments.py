"""What can never be right of an engine's arguments, refused at once: the same for every implementation."""

import math

from erlmcp.engine._bounds import MOST_VALUE, check_name
from erlmcp.engine._records import NAMES
from erlmcp.interfaces import Lease


def check_key(key: str) -> None:
    """Raises ValueError for what is no key, or a name's."""
    check_name("key", key)
    if key.startswith(NAMES):
        raise ValueError(f"the key {key!r} is a name's: `register` and `release` alone change it")


def check_put(key: str, value: bytes, expires: float | None, lease: Lease | None, *, durable: bool) -> None:
    """Raises ValueError for what cannot be put."""
    check_key(key)
    if type(value) is not bytes or len(value) > MOST_VALUE:
        raise ValueError(
            f"a value is bytes, at most {MOST_VALUE}, not {type(value).__name__} of {len(value)}"
        )
    if expires is not None and not math.isfinite(expires):
        raise ValueError(f"an expiry is a time in seconds since the epoch, not {expires}")
    if lease is not None and (durable or expires is not None):
        raise ValueError("an entry under a lease ends with it: it has no expiry, and is not durable")


def check_register(name: str, owner: str, seconds: float) -> None:
    """Raises ValueError for what cannot be registered."""
    check_name("name", NAMES + name)
    check_name("owner", owner)
    if not 0 < seconds < math.inf:
        raise ValueError(f"a lease is for some time, not for {seconds} seconds")


def check_take(bucket: str, want: int, minimum: int, rate: float, burst: float) -> None:
    """Raises ValueError for what cannot be taken."""
    check_name("bucket", bucket)
    if not (1 <= minimum <= want and minimum <= burst < math.inf and 0 < rate < math.inf):
        raise ValueError(
            f"cannot take {minimum} to {want} from a bucket of {burst} that gains {rate} a second:"
            " 1 <= minimum <= want, minimum <= burst and 0 < rate must hold"
        )


def check_give(count: int, rate: float) -> None:
    """Raises ValueError for what cannot be given back."""
    if count < 0 or not 0 < rate < math.inf:
        raise ValueError(f"cannot give {count} back to a bucket that gains {rate} a second")
