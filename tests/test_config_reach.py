"""Whether others than this machine can reach an address."""

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.address import HostnameAddress, IPv4Address, IPv6Address, UNIXAddress
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.config import endpoint_reachable, is_loopback, reachable


class ReachTests(SynchronousTestCase):
    """Each kind of address, and each kind of endpoint."""

    def test_bound(self) -> None:
        for address, open_ in (
            (IPv4Address("TCP", "127.0.0.1", 1), False),
            (IPv4Address("TCP", "127.9.9.9", 1), False),
            (IPv4Address("TCP", "0.0.0.0", 1), True),
            (IPv4Address("TCP", "10.0.0.1", 1), True),
            (IPv6Address("TCP", "::1", 1), False),
            (IPv6Address("TCP", "::", 1), True),
            (IPv6Address("TCP", "::ffff:127.0.0.1", 1), False),
            (IPv6Address("TCP", "::ffff:10.0.0.1", 1), True),
            (IPv6Address("TCP", "fe80::1%eth0", 1), True),
            (UNIXAddress("/run/x"), False),
            (HostnameAddress(b"localhost", 1), True),
            ("a plugin's own", True),
        ):
            self.assertEqual(reachable(address), open_, address)

    def test_described(self) -> None:
        for description, open_ in (
            ("tcp:8765", True),
            ("tcp:8765:interface=127.0.0.1", False),
            ("tcp:8765:interface=localhost", False),
            ("tcp:8765:interface=example.com", True),
            ("tcp:8765:interface=", True),
            ("tcp:interface=127.0.0.1:port=8765", False),
            (r"tcp:8765:interface=\:\:1", False),
            (r"tcp6:8765:interface=\:\:", True),
            ("tcp:8765:127.0.0.1", False),
            ("ssl:443:privateKey=k:certKey=c", True),
            ("tls:/certs:443:interface=127.0.0.1", False),
            ("haproxy:tcp:8765:interface=127.0.0.1", False),
            ("haproxy:tcp:8765", True),
            ("haproxy", None),
            ("unix:/run/x", False),
            ("systemd:domain=INET:index=0", None),
            ("onion:80", None),
            ("", None),
        ):
            self.assertEqual(endpoint_reachable(description), open_, description)

    @settings(deadline=None, max_examples=100)
    @given(st.ip_addresses(v=4))
    def test_any_address(self, address: object) -> None:
        self.assertEqual(is_loopback(str(address)), address.is_loopback)  # type: ignore[attr-defined]
