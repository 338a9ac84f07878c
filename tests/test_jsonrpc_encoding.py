"""Messages on their way out."""

import json
from typing import Any

from msgspec import UNSET, Raw
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.jsonrpc import (
    INTERNAL_ERROR,
    METHOD_NOT_FOUND,
    Codec,
    Limits,
    encode_error,
    encode_notification,
    encode_request,
    encode_result,
)


class EncodingTests(SynchronousTestCase):
    """What goes on the wire."""

    def test_result(self) -> None:
        """A result has its id and what it was given, raw parts as they are."""
        encoded = encode_result("a", {"x": 1, "raw": Raw(b'{"y":  2}')})
        self.assertEqual(encoded, b'{"jsonrpc":"2.0","id":"a","result":{"x":1,"raw":{"y":  2}}}')
        self.assertEqual(encode_result(0, Raw(b"{}")), b'{"jsonrpc":"2.0","id":0,"result":{}}')

    def test_error(self) -> None:
        """An error has data only if given, and an id only if there is one."""
        self.assertEqual(
            encode_error(5, METHOD_NOT_FOUND, "no"),
            b'{"jsonrpc":"2.0","id":5,"error":{"code":-32601,"message":"no"}}',
        )
        self.assertEqual(
            encode_error(None, INTERNAL_ERROR, "no", None),
            b'{"jsonrpc":"2.0","error":{"code":-32603,"message":"no","data":null}}',
        )

    def test_calls(self) -> None:
        """Requests and notifications leave params out if there are none."""
        self.assertEqual(encode_notification("n"), b'{"jsonrpc":"2.0","method":"n"}')
        self.assertEqual(encode_notification("n", {}), b'{"jsonrpc":"2.0","method":"n","params":{}}')
        self.assertEqual(
            encode_request(1, "m", Raw(b"{}")), b'{"jsonrpc":"2.0","id":1,"method":"m","params":{}}'
        )
        self.assertEqual(encode_request(1, "m"), b'{"jsonrpc":"2.0","id":1,"method":"m"}')

    def test_one_line(self) -> None:
        """No raw payload brings a line break along; those inside strings are escapes anyway."""
        pretty: dict[str, Any] = {"a": [1, "b\nc\rd"], "e": {"f": None}}
        raw = Raw(json.dumps(pretty, indent=2).replace("\n", "\r\n").encode())
        for encoded, key in (
            (encode_result(1, raw), "result"),
            (encode_notification("n", raw), "params"),
            (encode_request(1, "n", raw), "params"),
        ):
            self.assertNotIn(b"\n", encoded)
            self.assertNotIn(b"\r", encoded)
            self.assertEqual(json.loads(encoded)[key], pretty)
        self.assertNotIn(b"\n", encode_error(1, 1, "a\nb", Raw(b"[\n]")))
        self.assertNotIn(b"\r", encode_result(1, Raw(b"[\r]")))

    def test_decodes_again(self) -> None:
        """What is encoded decodes to itself."""
        codec = Codec(Raw, Limits())
        message = codec.decode(encode_error(None, -1, "x"))
        self.assertTrue(message.is_response)
        self.assertIs(message.id, UNSET)
