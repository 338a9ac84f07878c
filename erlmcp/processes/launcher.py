"""Runs one command, confined and in a session of its own, and sees to it that nothing of it outlives the daemon.

Started by `erlmcp.processes.Child` as a script of its own (``python -I -S``), so it imports nothing but small parts of
the standard library. It forks: one half becomes the command, the other stays, reaps, and signals the whole tree when
told to, or when the daemon has died. Descriptor 3 brings what to do and then one letter for each order, 4 reports.
"""

import ctypes
import os
import resource
import select
import signal
import sys
import time

ORDERS = 3
REPORTS = 4
CHUNK = 65536
# How often the tree is signalled again once it is to be killed: it may be forking meanwhile.
PERSISTENCE = 0.05
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

_prctl = ctypes.CDLL(None, use_errno=True).prctl


class Order:
    """What to run, as it came through descriptor 3: records that end with a NUL byte, ``key=value`` each.

    Attributes:
        arguments: the command and its arguments, at least one.
        variables: its whole environment.
        cwd: where it runs; empty for here.
        limits: resource limits: ``(number, value)`` pairs, for soft and hard limit alike, hard ones never raised.
        parent: the daemon's process id.
        wrapper: the name of a program that stands between (``bwrap``) and is not to be asked to end, only killed.
        orphan_grace: seconds between SIGTERM and SIGKILL once the daemon has died.
        more: orders that came with it already.
    """

    def __init__(self) -> None:
        self.arguments: list[bytes] = []
        self.variables: dict[bytes, bytes] = {}
        self.cwd = b""
        self.limits: list[tuple[int, int]] = []
        self.parent = 0
        self.wrapper = b""
        self.orphan_grace = 0.0
        self.more = b""

    @classmethod
    def read(cls) -> "Order":
        """Read the order up to its end, an empty record; raises EOFError if the daemon dies meanwhile."""
        held = b""
        while b"\0\0" not in held:
            data = os.read(ORDERS, CHUNK)
            if not data:
                raise EOFError
            held += data
        order = cls()
        records, _, order.more = held.partition(b"\0\0")
        for record in records.split(b"\0"):
            key, _, value = record.partition(b"=")
            order.take(key, value)
        return order

    def take(self, key: bytes, value: bytes) -> None:
        """Take one record."""
        if key == b"arg":
            self.arguments.append(value)
        elif key == b"env":
            name, _, content = value.partition(b"=")
            self.variables[name] = content
        elif key == b"cwd":
            self.cwd = value
        elif key == b"limit":
            number, _, amount = value.partition(b"=")
            self.limits.append((int(number), int(amount)))
        elif key == b"parent":
            self.parent = int(value)
        elif key == b"wrapper":
            self.wrapper = value
        elif key == b"orphan_grace":
            self.orphan_grace = float(value)
        else:
            raise ValueError(key)


def become(order: Order, launcher: int, failure: int) -> None:
    """Turn into the command; if that fails, say what and why to `failure`, and exit."""
    step = b"setsid"
    try:
        os.setsid()
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != launcher:
            os._exit(1)
        for each in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            # What is ignored stays so across exec, and Python ignores some.
            signal.signal(each, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        step = b"limit"
        for number, amount in order.limits:
            hard = resource.getrlimit(number)[1]
            bound = amount if hard == resource.RLIM_INFINITY else min(amount, hard)
            # One second between the two, or a process that may catch SIGXCPU is killed in its place.
            more = number == resource.RLIMIT_CPU and (hard == resource.RLIM_INFINITY or bound < hard)
            resource.setrlimit(number, (bound, bound + more))
        if order.cwd:
            step = b"chdir"
            os.chdir(order.cwd)
        step = b"exec"
        os.execvpe(order.arguments[0], order.arguments, order.variables)  # noqa: S606 - no shell is wanted
    except OSError as error:
        os.write(failure, b"%s %d" % (step, error.errno or 0))
    except ValueError:
        os.write(failure, b"%s %d" % (step, 22))
    finally:
        os._exit(127)


def descendants(ancestor: int) -> list[int]:
    """The processes below one, as far as ``/proc`` shows them; empty without ``/proc``."""
    children: dict[int, list[int]] = {}
    try:
        names = os.listdir("/proc")  # noqa: PTH208 - pathlib would cost milliseconds at each start
    except OSError:
        return []
    for name in names:
        if name.isdigit():
            try:
                fd = os.open(f"/proc/{name}/stat", os.O_RDONLY)
            except OSError:
                continue
            try:
                # pid (name) state ppid: the name may hold anything, parentheses too.
                fields = os.read(fd, 1024).rpartition(b")")[2].split()
            except OSError:
                continue
            finally:
                os.close(fd)
            # Those that have ended are among them (Z): so is one whose first thread alone has.
            if len(fields) > 1:
                children.setdefault(int(fields[1]), []).append(int(name))
    found = list(children.get(ancestor, ()))
    for pid in found:
        found.extend(children.get(pid, ()))
    return found


def is_wrapper(pid: int, wrapper: bytes) -> bool:
    """Whether a process is the program that stands between us and the command."""
    try:
        fd = os.open(f"/proc/{pid}/comm", os.O_RDONLY)
    except OSError:
        return False
    try:
        return os.read(fd, 64).rstrip(b"\n") == wrapper
    except OSError:
        return False
    finally:
        os.close(fd)


class Watch:
    """The half that stays: reaps all that the command started, and signals all of it when told to.

    As a subreaper it inherits what loses its parent, sessions of their own included: it has no children left when the
    whole tree is gone, and not before.
    """

    def __init__(self, order: Order, leader: int, failure: int, wakeup: int) -> None:
        self.order = order
        self.leader = leader
        self.failure = failure
        self.failed = b""
        self.wakeup = wakeup
        self.orphaned = False
        self.killing = False
        self.kill_at: float | None = None

    def run(self) -> None:
        """Returns when nothing is left."""
        if self.order.more:
            self.obey(self.order.more)
        poll = select.poll()
        for fd in (ORDERS, self.failure, self.wakeup):
            poll.register(fd, select.POLLIN)
        while self.failure >= 0 or not self.reap():
            for fd, _ in poll.poll(self.patience()):
                if fd == self.failure:
                    poll.unregister(fd)
                    self.launched()
                elif fd == ORDERS:
                    orders = os.read(ORDERS, CHUNK)
                    if not orders:
                        poll.unregister(ORDERS)
                    self.obey(orders)
                else:
                    self.woken(os.read(self.wakeup, CHUNK))
            if self.kill_at is not None and time.monotonic() >= self.kill_at:
                self.kill_at, self.killing = None, True
            if self.killing:
                self.signal(signal.SIGKILL)

    def patience(self) -> float | None:
        """Milliseconds until there is something to do even if nothing happens."""
        if self.killing:
            return PERSISTENCE * 1000
        if self.kill_at is not None:
            return max(0.0, self.kill_at - time.monotonic()) * 1000
        return None

    def launched(self) -> None:
        """The other half has become the command, or has said why not."""
        self.failed = os.read(self.failure, 256)
        os.close(self.failure)
        self.failure = -1
        if self.failed:
            self.report(b"failed %s\n" % self.failed)
        else:
            self.report(b"started %d\n" % self.leader)

    def obey(self, orders: bytes) -> None:
        """T: ask all to end; K: kill all. Nothing: the daemon is gone."""
        if not orders:
            self.abandoned()
        if b"T" in orders:
            self.signal(signal.SIGTERM)
        if b"K" in orders:
            self.killing = True

    def woken(self, signals: bytes) -> None:
        """A signal has come: SIGCHLD is seen to anyway, SIGUSR2 says that the daemon has died."""
        if signal.SIGUSR2 in signals:
            self.abandoned()

    def abandoned(self) -> None:
        """The daemon has died: end all, soon."""
        if not self.orphaned:
            self.orphaned = True
            self.signal(signal.SIGTERM)
            self.kill_at = time.monotonic() + self.order.orphan_grace

    def signal(self, number: int) -> None:
        """Send a signal to the whole tree."""
        pids = descendants(os.getpid())
        if not pids:
            try:  # noqa: SIM105 - contextlib would cost milliseconds at each start
                os.killpg(self.leader, number)
            except OSError:
                pass
        for pid in pids:
            if number == signal.SIGKILL or not (self.order.wrapper and is_wrapper(pid, self.order.wrapper)):
                try:
                    os.kill(pid, number)
                    if number == signal.SIGTERM:
                        os.kill(pid, signal.SIGCONT)
                except OSError:
                    pass

    def reap(self) -> bool:
        """Take what has ended; whether nothing is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return True
            if pid == 0:
                return False
            if pid == self.leader and not self.failed:
                self.report(b"exited %d\n" % os.waitstatus_to_exitcode(status))

    def report(self, line: bytes) -> None:
        """Tell the daemon, if it is there."""
        try:  # noqa: SIM105 - as above
            os.write(REPORTS, line)
        except OSError:
            pass


def main() -> int:
    """Launch, and stay until nothing is left."""
    for fd in (ORDERS, REPORTS):
        os.set_inheritable(fd, False)  # noqa: FBT003 - it takes no keywords
    os.setsid()
    launcher = os.getpid()
    _prctl(PR_SET_PDEATHSIG, signal.SIGUSR2, 0, 0, 0)
    _prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    wakeup, wake = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(wakeup, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGUSR2):
        signal.signal(number, lambda *_: None)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # Whoever ends the daemon by its group or cgroup means it: what is here ends with the daemon, in steps.
        signal.signal(number, signal.SIG_IGN)
    try:
        order = Order.read()
    except EOFError:
        return 1
    if os.getppid() != order.parent:
        return 1
    failure, said = os.pipe()
    leader = os.fork()
    if leader == 0:
        become(order, launcher, said)
    os.close(said)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd, inheritable=False)
    Watch(order, leader, failure, wakeup).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
