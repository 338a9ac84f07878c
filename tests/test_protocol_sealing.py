"""Sealed tokens and cursors: what was altered, cut, moved or kept too long never opens."""

import base64
import importlib

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.protocol import BadSeal, Cursors, KeyRing, McpError

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
KEY = bytes(range(32))
OTHER = bytes(range(1, 33))
RING = KeyRing([KEY])
SEALER = RING.sealer("request-state")
quick = settings(deadline=None, max_examples=60)


class Seals(SynchronousTestCase):
    def refused(self, token, binding=b"who", now=0.0, sealer=SEALER):
        error = self.assertRaises(BadSeal, sealer.unseal, token, binding, now)
        self.assertEqual(str(error), "the token is not valid")

    @quick
    @given(st.binary(max_size=2000), st.binary(max_size=60), st.floats(min_value=0.01, max_value=1e12))
    def test_round_trip(self, payload, binding, expires):
        token = SEALER.seal(payload, binding, expires)
        self.assertLessEqual(set(token), set(ALPHABET))
        self.assertEqual(SEALER.unseal(token, binding, expires - 0.01), payload)

    def test_small_payloads_make_small_tokens(self):
        self.assertLessEqual(len(SEALER.seal(bytes(600), bytes(5000), 1.0)), 1024)

    def test_each_token_is_another(self):
        self.assertEqual(len({SEALER.seal(b"x", b"", 1.0) for _ in range(50)}), 50)

    def test_the_payload_and_the_binding_cannot_be_read(self):
        raw = base64.urlsafe_b64decode(SEALER.seal(b"secret" * 4, b"binding" * 4, 1.0) + "===")
        self.assertNotIn(b"secret", raw)
        self.assertNotIn(b"binding", raw)

    @quick
    @given(st.binary(max_size=100), st.data())
    def test_any_flipped_bit_is_refused(self, payload, data):
        raw = bytearray(base64.urlsafe_b64decode(SEALER.seal(payload, b"who", 9.0) + "==="))
        bit = data.draw(st.integers(min_value=0, max_value=len(raw) * 8 - 1))
        raw[bit // 8] ^= 1 << bit % 8
        self.refused(base64.urlsafe_b64encode(raw).rstrip(b"=").decode())

    @quick
    @given(st.binary(max_size=100), st.data())
    def test_any_other_character_is_refused(self, payload, data):
        token = SEALER.seal(payload, b"who", 9.0)
        at = data.draw(st.integers(min_value=0, max_value=len(token) - 1))
        other = data.draw(st.sampled_from([one for one in ALPHABET if one != token[at]]))
        self.refused(token[:at] + other + token[at + 1 :])

    @quick
    @given(st.binary(max_size=100), st.data())
    def test_any_cut_is_refused(self, payload, data):
        token = SEALER.seal(payload, b"who", 9.0)
        at = data.draw(st.integers(min_value=0, max_value=len(token) - 1))
        self.refused(token[:at])
        if at:
            self.refused(token[at:])

    @quick
    @given(st.text(max_size=200))
    def test_any_other_text_is_refused(self, text):
        self.refused(text)

    def test_no_second_spelling_of_a_token_opens(self):
        for size in range(4):
            token = SEALER.seal(bytes(size), b"who", 9.0)
            for spelling in (token + "=", token + "==", token + "\n", " " + token, token + "A", token + "é"):
                self.refused(spelling)
            last = ALPHABET.index(token[-1])
            for bits in range(1, 16):
                self.refused(token[:-1] + ALPHABET[last ^ bits])

    def test_the_other_base64_alphabet_is_refused(self):
        while True:
            token = SEALER.seal(bytes(30), b"who", 9.0)
            if "-" in token and "_" in token:
                break
        self.refused(token.replace("-", "+"))
        self.refused(token.replace("_", "/"))

    @quick
    @given(st.binary(max_size=20), st.binary(max_size=20))
    def test_another_binding_is_refused(self, binding, other):
        if binding != other:
            self.refused(SEALER.seal(b"x", binding, 9.0), other)

    def test_another_purpose_is_refused(self):
        self.refused(RING.sealer("cursor").seal(b"x", b"who", 9.0))

    def test_another_key_is_refused(self):
        self.refused(KeyRing([OTHER]).sealer("request-state").seal(b"x", b"who", 9.0))

    def test_a_forged_key_id_is_refused(self):
        foreign = base64.urlsafe_b64decode(
            KeyRing([OTHER]).sealer("request-state").seal(b"x", b"who", 9.0) + "==="
        )
        ours = base64.urlsafe_b64decode(SEALER.seal(b"x", b"who", 9.0) + "===")
        self.refused(base64.urlsafe_b64encode(ours[:5] + foreign[5:]).rstrip(b"=").decode())

    def test_expiry(self):
        token = SEALER.seal(b"x", b"who", 100.5)
        self.assertEqual(SEALER.unseal(token, b"who", 100.499), b"x")
        for now in (100.5, 101.0, 1e18):
            self.refused(token, now=now)

    def test_no_expiry(self):
        for expires in (-1.0, float("nan"), float("inf"), 1e17):
            self.assertRaises(ValueError, SEALER.seal, b"x", b"", expires)

    def test_too_much(self):
        self.assertRaises(ValueError, SEALER.seal, bytes(4 * 1024 * 1024), b"", 1.0)
        self.refused("A" * (4 * 1024 * 1024 + 1))


class Rings(SynchronousTestCase):
    def test_rotation_keeps_old_tokens_while_their_key_stays(self):
        old = KeyRing([KEY]).sealer("p").seal(b"x", b"", 9.0)
        rotated = KeyRing([OTHER, KEY]).sealer("p")
        self.assertEqual(rotated.unseal(old, b"", 0.0), b"x")
        new = rotated.seal(b"y", b"", 9.0)
        self.assertEqual(KeyRing([OTHER]).sealer("p").unseal(new, b"", 0.0), b"y")
        self.assertRaises(BadSeal, KeyRing([KEY]).sealer("p").unseal, new, b"", 0.0)
        self.assertRaises(BadSeal, KeyRing([OTHER]).sealer("p").unseal, old, b"", 0.0)

    def test_keys_are_derived_once_for_each_purpose(self):
        module = importlib.import_module("erlmcp.protocol._sealing")
        derived = []
        original = module._derive

        def counting(key, purpose):
            derived.append((key, purpose))
            return original(key, purpose)

        self.patch(module, "_derive", counting)
        ring = KeyRing([KEY, OTHER])
        sealer = ring.sealer("p")
        for _ in range(5):
            self.assertIs(ring.sealer("p"), sealer)
            sealer.unseal(sealer.seal(b"", b"", 1.0), b"", 0.0)
        ring.sealer("q")
        self.assertEqual(derived, [(KEY, "p"), (OTHER, "p"), (KEY, "q"), (OTHER, "q")])

    def test_derivation_is_fixed(self):
        # HKDF-SHA256 by RFC 5869, written out: tokens must open after an upgrade of this project or its libraries.
        import hashlib
        import hmac

        module = importlib.import_module("erlmcp.protocol._sealing")
        extracted = hmac.digest(bytes(32), KEY, "sha256")
        expanded = hmac.digest(extracted, b"erlmcp seal\0cursor\x01", "sha256")
        self.assertEqual(module._derive(KEY, "cursor"), expanded)
        self.assertEqual(module._key_id(KEY), hashlib.sha256(b"erlmcp key id\0" + KEY).digest()[:4])

    def test_new_keys(self):
        keys = {KeyRing.generate() for _ in range(10)}
        self.assertEqual((len(keys), {len(key) for key in keys}), (10, {32}))

    def test_no_rings(self):
        for keys, word in (
            ([], "1 to 64"),
            ([KeyRing.generate() for _ in range(65)], "1 to 64"),
            ([KEY, b"short"], "sealing key 2 has 5 bytes"),
            ([KEY, KEY], "twice"),
        ):
            self.assertIn(word, str(self.assertRaises(ValueError, KeyRing, keys)))


class PageCursors(SynchronousTestCase):
    cursors = Cursors(RING.sealer("cursor"), lifetime=10.0)

    def refused(self, kind, cursor, binding, now):
        error = self.assertRaises(McpError, self.cursors.read, kind, cursor, binding, now)
        self.assertEqual((error.code, error.http_status()), (-32602, 200))
        self.assertIn("Invalid cursor", error.message)

    @quick
    @given(st.text(st.characters(exclude_categories=("Cs",)), max_size=50), st.binary(max_size=20))
    def test_round_trip(self, after, binding):
        cursor = self.cursors.next("tools", after, binding, 100.0)
        self.assertEqual(self.cursors.read("tools", cursor, binding, 109.0), after)

    def test_other_lists_bindings_and_times(self):
        cursor = self.cursors.next("tools", "a", b"who", 100.0)
        self.refused("prompts", cursor, b"who", 100.0)
        self.refused("tools", cursor, b"other", 100.0)
        self.refused("tools", cursor, b"who", 110.0)
        self.refused("tools", "", b"who", 100.0)
        self.refused("tools", "no cursor", b"who", 100.0)

    def test_list_and_binding_do_not_run_together(self):
        cursor = self.cursors.next("tools", "a", b"x\0y", 100.0)
        self.refused("tools\0x", cursor, b"y", 100.0)
