"""Opening a payload that the codec left raw."""

from typing import Any

import msgspec

from erlmcp.jsonrpc._errors import INVALID_PARAMS, MalformedMessage

_decode = msgspec.json.Decoder().decode


def decode_payload(raw: msgspec.Raw | bytes, name: str) -> Any:
    """Parse a payload of a decoded message: its syntax, depth and keys are known to be good, its numbers are not.

    Args:
        raw: the payload.
        name: what it is called in the error, such as ``params.arguments``.

    Raises:
        MalformedMessage: -32602, without id: a number that no double holds (``1e999``), or an integer of thousands
            of digits; or, of a payload that no codec has seen, that it is no JSON.
    """
    try:
        return _decode(raw)
    except msgspec.ValidationError:
        sentence = f"{name} holds a number that is out of range"
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        sentence = f"{name} is not valid JSON"
    raise MalformedMessage(INVALID_PARAMS, sentence)
