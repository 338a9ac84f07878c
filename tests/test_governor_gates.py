"""The gates' defaults: each does its one job, and lets through what is within bounds."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from erlmcp.governor import (
    AdmitGate,
    AuthenticateGate,
    AuthorizeGate,
    ConnectionLimits,
    LimitsGate,
    RateGate,
)
from erlmcp.interfaces import (
    ANONYMOUS,
    Complete,
    IAdmission,
    IAuthorize,
    IConnectionLimits,
    IGate,
    IRecord,
    Peer,
    Principal,
    Request,
    ToolDefinition,
    WireLimits,
)
from erlmcp.protocol import McpError, errors
from erlmcp.receipts import Unrecorded


def request(
    method: str = "tools/call", listener: str = "main", size: int = 10, uid: int | None = None
) -> Request:
    return Request(id=1, method=method, size=size, peer=Peer(transport="unix", listener=listener, uid=uid))


class LimitsGateTests(SynchronousTestCase):
    def test_size(self) -> None:
        gate = LimitsGate({"small": 100}, 1000)
        verifyObject(IGate, gate)
        gate.check(request(size=1000))
        gate.check(request(listener="small", size=100))
        for big in (request(size=1001), request(listener="small", size=101)):
            error = self.assertRaises(McpError, gate.check, big)
            self.assertEqual(error.code, errors.INVALID_REQUEST)
            self.assertIn(f"{big.size} bytes", error.message)


class AuthenticateGateTests(SynchronousTestCase):
    def test_principals(self) -> None:
        gate = AuthenticateGate()
        verifyObject(IGate, gate)
        unknown, root, again = request(), request(uid=0), request(uid=0)
        # What an edge may have put there is no authentication.
        unknown.principal = Principal(id="root", kind="uid")
        for one in (unknown, root, again):
            gate.check(one)
        self.assertIs(unknown.principal, ANONYMOUS)
        self.assertEqual(root.principal, Principal(id="0", kind="uid"))
        self.assertIs(again.principal, root.principal)

    def test_memory_is_bounded(self) -> None:
        gate = AuthenticateGate()
        for uid in range(5000):
            one = request(uid=uid)
            gate.check(one)
            self.assertEqual(one.principal.id, str(uid))
        self.assertLessEqual(len(gate._by_uid), 1024)


class OpenGateTests(SynchronousTestCase):
    """Gates whose rules come later."""

    def test_authorize(self) -> None:
        gate = AuthorizeGate()
        verifyObject(IAuthorize, gate)
        self.assertIsNone(gate.check(request()))
        self.assertTrue(gate.everything)
        self.assertTrue(gate.shows(ANONYMOUS, "tools/call", "echo"))

    def test_rate(self) -> None:
        verifyObject(IGate, RateGate())
        self.assertIsNone(RateGate().check(request()))

    def test_record(self) -> None:
        record = Unrecorded()
        verifyObject(IRecord, record)
        self.assertIsNone(record.intent(request()))
        self.assertIsNone(record.outcome(request(), Complete({}), None))


class AdmitGateTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.now = 100.0
        self.gate = AdmitGate(lambda: self.now, timeout=60.0, concurrency=2)

    def test_deadline(self) -> None:
        verifyObject(IAdmission, self.gate)
        plain, targeted = request(), request()
        self.gate.check(plain)
        self.assertEqual(plain.deadline, 160.0)
        targeted.target = ToolDefinition(name="x", wire=None, timeout=5.0)  # type: ignore[arg-type]
        self.gate.check(targeted)
        self.assertEqual(targeted.deadline, 105.0)

    def test_a_target_without_a_timeout(self) -> None:
        one = request()
        one.target = ToolDefinition(name="x", wire=None)  # type: ignore[arg-type]
        self.gate.check(one)
        self.assertEqual(one.deadline, 160.0)

    def test_concurrency(self) -> None:
        first, second, third = request(), request(), request()
        self.gate.check(first)
        self.gate.check(second)
        error = self.assertRaises(McpError, self.gate.check, third)
        self.assertEqual((error.code, error.http_status()), (errors.OVERLOADED, 503))
        self.assertEqual(error.data, {"rule": "concurrency"})
        self.assertEqual(third.deadline, 0)
        self.gate.release(first)
        self.gate.check(third)
        self.assertEqual(self.gate.under_way, 2)

    def test_subscriptions_are_not_work(self) -> None:
        for _ in range(5):
            one = request("subscriptions/listen")
            self.gate.check(one)
            self.assertEqual(one.deadline, 0)
        self.assertEqual(self.gate.under_way, 0)
        self.gate.release(one)
        self.assertEqual(self.gate.under_way, 0)


class ConnectionLimitsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.limits = ConnectionLimits(WireLimits(idle=5.0), connections=3, per_address=2)

    def test_per_address(self) -> None:
        verifyObject(IConnectionLimits, self.limits)
        self.assertEqual(self.limits.wire.idle, 5.0)
        here, there = Peer(transport="tcp", host="a"), Peer(transport="tcp", host="b")
        self.assertIsNone(self.limits.admit(here))
        self.assertIsNone(self.limits.admit(here))
        self.assertIn("the address a has 2 connections", self.limits.admit(here) or "")
        self.assertIsNone(self.limits.admit(there))
        self.assertEqual(self.limits.refused, {"connections": 0, "per_address": 1})
        self.limits.leave(here)
        self.assertIsNone(self.limits.admit(here))

    def test_in_all(self) -> None:
        peers = [Peer(transport="tcp", host=str(number)) for number in range(4)]
        self.assertEqual([self.limits.admit(peer) for peer in peers[:3]], [None] * 3)
        self.assertIn("the listener has 3 connections", self.limits.admit(peers[3]) or "")
        self.assertEqual((self.limits.active, self.limits.refused["connections"]), (3, 1))

    def test_without_an_address(self) -> None:
        unix = Peer(transport="tcp")
        for _ in range(3):
            self.assertIsNone(self.limits.admit(unix))
        self.assertIsNotNone(self.limits.admit(unix))
        self.limits.leave(unix)
        self.assertEqual(self.limits.active, 2)

    def test_one_of_several_leaves(self) -> None:
        peer = Peer(transport="tcp", host="a")
        self.limits.admit(peer)
        self.limits.admit(peer)
        self.limits.leave(peer)
        self.assertIsNone(self.limits.admit(peer))
        self.assertIsNotNone(self.limits.admit(peer))


class ConnectionMachine(RuleBasedStateMachine):
    """Connections come and go as they like: the bounds hold, and nothing is kept of who has gone."""

    def __init__(self) -> None:
        super().__init__()
        self.limits = ConnectionLimits(WireLimits(), connections=5, per_address=2)
        self.here: list[Peer] = []

    @rule(host=st.sampled_from(["", "a", "b", "c"]))
    def come(self, host: str) -> None:
        peer = Peer(transport="tcp", host=host)
        may = len(self.here) < 5 and (not host or self.here.count(peer) < 2)
        assert (self.limits.admit(peer) is None) == may
        if may:
            self.here.append(peer)

    @rule(data=st.data())
    def go(self, data: st.DataObject) -> None:
        if self.here:
            self.limits.leave(self.here.pop(data.draw(st.integers(0, len(self.here) - 1))))

    @invariant()
    def counted(self) -> None:
        assert self.limits.active == len(self.here)
        assert set(self.limits._by_host) == {peer.host for peer in self.here if peer.host}


class ConnectionMachineTests(SynchronousTestCase):
    def test_machine(self) -> None:
        run_state_machine_as_test(
            ConnectionMachine, settings=settings(max_examples=30, stateful_step_count=30, deadline=None)
        )
