"""What is urgent does not wait behind what may be waiting for it."""

from twisted.trial.unittest import SynchronousTestCase

from erlmcp.web import Origin
from tests.web_memory import POST, Line, Memory, Told

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"


class UrgentTests(SynchronousTestCase):
    def send(self, memory: Memory, *, urgent: bool = False, origin: Origin | None = None) -> Told:
        told = Told()
        told.ongoing = memory.pool.send(origin or Origin("http", "192.0.2.1", 80), POST, told, urgent=urgent)
        return told

    def full(self) -> tuple[Memory, Line, list[Told]]:
        memory = Memory(connections_per_origin=1)
        told = [self.send(memory), self.send(memory)]
        return memory, memory.only(), told

    def test_past_those_who_wait(self) -> None:
        memory, line, (under_way, waits) = self.full()
        answer = self.send(memory, urgent=True)
        beside = memory.only()
        beside.say(OK)
        self.assertEqual((answer.status, under_way.status, waits.status), (200, 0, 0))
        self.assertEqual((len(memory.pool.connections), memory.pool.waiting), (2, 1))
        line.say(OK)
        line.say(OK)
        self.assertEqual((under_way.status, waits.status), (200, 200))

    def test_on_what_is_there_if_nobody_waits(self) -> None:
        memory = Memory(connections_per_origin=1)
        first = self.send(memory, urgent=True)
        line = memory.only()
        line.say(OK)
        second = self.send(memory, urgent=True)
        line.say(OK)
        self.assertEqual((first.status, second.status, memory.dials()), (200, 200, []))

    def test_bounded_too(self) -> None:
        memory = Memory(connections_per_origin=1, queue=1)
        for _ in range(2):
            self.send(memory)
        urgent = [self.send(memory, urgent=True) for _ in range(3)]
        memory.turn()
        self.assertEqual([len(one.ends) for one in urgent], [0, 1, 1], "not on a connection yet")
        self.assertTrue(urgent[1].error.unsent)

    def test_few(self) -> None:
        memory = Memory(connections_per_origin=9)
        for _ in range(10):
            self.send(memory)
        memory.accept()
        for _ in range(10):
            self.send(memory, urgent=True)
        self.assertEqual(len(memory.dials()), 4)

    def test_closed(self) -> None:
        memory, line, told = self.full()
        told.append(self.send(memory, urgent=True))
        told.append(self.send(memory, urgent=True))
        beside = memory.only()
        closed = memory.pool.close()
        for one in told:
            self.assertEqual(len(one.ends), 1)
        line.end()
        self.assertNoResult(closed)
        beside.end()
        self.successResultOf(closed)
        self.assertEqual(memory.reactor.getDelayedCalls(), [])
