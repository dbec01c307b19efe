"""The ledger and the probes below it on real programs, on both machines: what is counted is what the program did."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import support
import trapline
from trapline.abi.errno import EPERM
from trapline.kernel.mm.address_space import AddressSpace
from trapline.kernel.sync.park import Waiter
from trapline.machine.contract import WRITE
from trapline.scope.ledger.account import Account
from trapline.scope.ledger.costs import BODY, PARTS, POLICY, TRAP
from trapline.scope.ledger.ledger import Ledger
from trapline.scope.listener import Listener
from trapline.scope.tamper.tamper import Tamper

pytestmark = pytest.mark.usefixtures("no_process_left")

SOURCE = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGES 600
static char buf[4096];

static int moves(void)
{
	int fd = open("/tmp/ledger.dat", O_RDWR | O_CREAT | O_TRUNC, 0600);

	for (int i = 0; i < 1000; i++)
		syscall(SYS_getppid);
	for (int i = 0; i < 10; i++)
		if (write(fd, buf, 4096) != 4096)
			return 1;
	lseek(fd, 0, SEEK_SET);
	for (int i = 0; i < 10; i++)
		if (read(fd, buf, 4096) != 4096)
			return 2;
	return 0;
}

static int copies(void)
{
	char *p = mmap((void *)0x10000000, PAGES * 4096L, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

	madvise(p, PAGES * 4096L, MADV_NOHUGEPAGE);
	madvise(p, PAGES * 4096L, MADV_RANDOM);
	for (int i = 0; i < PAGES; i++)
		p[i * 4096L] = 1;
	if (fork() == 0) {
		for (int i = 0; i < PAGES; i += 2)
			p[i * 4096L] = 2;
		_exit(0);
	}
	wait(NULL);
	return 0;
}

static int loops(long n)
{
	for (volatile long i = 0; i < n; i++)
		;
	return 0;
}

static int restricted(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getpgid, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { 4, code };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
		return 1;
	for (int i = 0; i < 100; i++)
		syscall(SYS_getppid);
	return syscall(SYS_getpgid, 0) == -1 ? 0 : 2;
}

static int ping_pong(void)
{
	int a[2], b[2];
	char c = 0;

	if (pipe(a) || pipe(b))
		return 1;
	if (fork() == 0) {
		for (int i = 0; i < 20; i++)
			if (read(a[0], &c, 1) != 1 || write(b[1], &c, 1) != 1)
				_exit(1);
		_exit(0);
	}
	for (int i = 0; i < 20; i++)
		if (write(a[1], &c, 1) != 1 || read(b[0], &c, 1) != 1)
			return 2;
	wait(NULL);
	return 0;
}

int main(int argc, char **argv)
{
	switch (argv[1][0]) {
	case 'm': return moves();
	case 'c': return copies();
	case 'l': return loops(atol(argv[2]));
	case 'r': return restricted();
	default: return ping_pong();
	}
}
"""
MACHINES = (
    "host",
    pytest.param("riscv", marks=pytest.mark.skipif(support.no_riscv() is not None, reason=str(support.no_riscv()))),
)


Program = Callable[[str], Path]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Program:
    """The program, for a machine."""
    source = tmp_path_factory.mktemp("programs") / "ledger.c"
    source.write_text(SOURCE)

    def made(machine: str) -> Path:
        compiler = "gcc" if machine == "host" else "riscv64-linux-gnu-gcc"
        return support.compile_c(source, ["-static", "-O1"], compiler=compiler)

    return made


def run(path: Path, machine: str, *args: str, listeners: tuple[Listener, ...] = (), interposer: Any = None) -> Account:
    """The account of a run, with its children, and with `listeners` beside the ledger."""
    binds = [f"{path.parent}:{path.parent}"]
    with trapline.Kernel(machine=machine, memory=512 << 20, binds=binds, seed=1, aslr=False) as kernel:
        clock = kernel.system.clock.monotonic_ns
        ledger = Ledger(clock)
        for each in (*listeners, ledger):
            kernel.subscribe(each)
        if interposer is not None:
            kernel.interpose(interposer)
        start_ns = clock()
        assert kernel.run([str(path), *args], timeout=50) == 0
        account = Account.of(ledger, machine, list(args), clock() - start_ns)
        for each in (*listeners, ledger):
            kernel.unsubscribe(each)
        if interposer is not None:
            kernel.withdraw(interposer)
        assert_untouched(kernel)
    return account


def assert_untouched(kernel: trapline.Kernel) -> None:
    """Nobody listens: every slot holds what is the kernel's own."""
    system = kernel.system
    hooks, sched, timers, machine = system.hooks, system.sched, system.timers, system.machine
    assert not {"call", "step"} & vars(system.loop.dispatcher).keys()
    assert not {"trap", "enter_user"} & vars(system.loop).keys()
    assert not {"enqueue", "born"} & vars(sched).keys()
    assert "run_due" not in vars(timers) and "kick" not in vars(machine) and "exit" not in vars(hooks)
    assert "Probes" not in repr(hooks.host_ready)
    assert all(table._around is None for table in system.loop.dispatcher.tables())
    assert Waiter.wake.__module__ == "trapline.kernel.sync.park"
    assert all(type(task.mm) is AddressSpace for task in system.tasks.values() if task.mm is not None)
    assert all("Measured" not in type(hart).__name__ for hart in getattr(machine, "harts", ()))


@pytest.mark.parametrize("machine", MACHINES)
def test_calls_and_bytes_are_those_that_were_made_and_parts_add_up(machine: str, program: Program) -> None:
    account = run(program(machine), machine, "moves")
    rows = account.by("call")
    assert rows["getppid"].count == 1000
    assert (rows["getppid"].bytes_in, rows["getppid"].bytes_out) == (0, 0)
    assert (rows["write"].count, rows["write"].bytes_in) == (10, 40960)
    assert (rows["read"].count, rows["read"].bytes_out) == (10, 40960)
    assert rows["openat"].bytes_in >= len("/tmp/ledger.dat")
    for name, cost in rows.items():
        assert cost.total_ns == sum(cost.parts), name
        assert min(cost.parts) >= 0, name
        assert cost.min_ns <= cost.percentile_ns(50) <= cost.percentile_ns(99) <= cost.max_ns, name
    parts = dict(zip(PARTS, rows["getppid"].parts, strict=True))
    assert all(parts[name] > 0 for name in ("trap", "decode", "body", "resume", "probes")), parts
    assert parts["copies"] == parts["policy"] == parts["wait"] == 0
    lived_ns = account.user_ns + account.crossings.total_ns
    assert 0.5 * account.wall_ns < lived_ns < account.wall_ns, "the program's life is most of the run, and no more"
    [user] = account.users.values()
    assert user.unmeasured == 0, "the stub is older than stub.c: `pip install -e .` builds it"
    assert user.stays == account.crossings.count and user.cycles > 0


@pytest.mark.parametrize("machine", MACHINES)
def test_copies_on_write_of_a_child_are_counted_page_by_page(machine: str, program: Program) -> None:
    class Faults(Listener):
        def __init__(self) -> None:
            self.found: Counter[tuple[str, int, bool]] = Counter()

        def faulted(self, task: Any, address: int, access: int, kind: str, pages: int, since_ns: int) -> None:
            if 0x10000000 <= address < 0x10000000 + 600 * 4096:
                self.found[kind, pages, bool(access & WRITE)] += 1

    faults = Faults()
    account = run(program(machine), machine, "copies", listeners=(faults,))
    assert faults.found == {("zero", 1, True): 600, ("cow", 1, True): 300}
    assert account.faults["cow"].count >= 300 and account.faults["cow"].ns > 0
    assert account.by("call")["fault: cow"].count == account.faults["cow"].count - account.faults["cow"].by_kernel


@pytest.mark.skipif(support.no_riscv() is not None, reason=str(support.no_riscv()))
def test_instructions_of_the_riscv_machine_are_counted_to_the_last(program: Program) -> None:
    path = program("riscv")
    counts = [sum(each.instructions for each in run(path, "riscv", "loops", n).users.values()) for n in ("1000", "2000", "4000")]
    each = (counts[1] - counts[0]) / 1000
    assert each == int(each) >= 3, "a turn of the loop loads, adds, stores and branches"
    assert counts[2] - counts[1] == 2000 * each


@pytest.mark.parametrize("machine", MACHINES)
def test_policy_has_its_part_when_a_program_restricts_itself(machine: str, program: Program) -> None:
    class Verdicts(Listener):
        def __init__(self) -> None:
            self.found: Counter[tuple[str, str]] = Counter()

        def decided(self, task: Any, by: str, verdict: str, since_ns: int) -> None:
            self.found[by, verdict] += 1

    verdicts = Verdicts()
    account = run(program(machine), machine, "restricted", listeners=(verdicts,))
    assert verdicts.found["seccomp", "refuse"] == 1 and verdicts.found["seccomp", "pass"] >= 100
    rows = account.by("call")
    assert rows["getppid"].parts[POLICY] > 0 and rows["getppid"].parts[BODY] > 0
    assert rows["getpgid"].errors == 1 and rows["getpgid"].parts[BODY] == 0, "the handler was not reached"


def test_interposers_are_policy_too(program: Program) -> None:
    class Verdicts(Listener):
        def __init__(self) -> None:
            self.found: set[tuple[str, str]] = set()

        def decided(self, task: Any, by: str, verdict: str, since_ns: int) -> None:
            self.found.add((by, verdict))

    class Judge:
        def decide(self, task: Any, call: Any, args: tuple[int, ...]) -> Tamper | None:
            if call.name == "getppid":
                return Tamper(result=-EPERM.number)
            return Tamper(delay_enter_ns=1) if call.name == "lseek" else None

    verdicts = Verdicts()
    account = run(program("host"), "host", "moves", listeners=(verdicts,), interposer=Judge())
    assert verdicts.found == {("interposer", verdict) for verdict in ("pass", "refuse", "change")}
    rows = account.by("call")
    assert rows["getppid"].errors == 1000 and rows["getppid"].parts[POLICY] > 0
    assert rows["lseek"].errors == 0


@pytest.mark.parametrize("machine", MACHINES)
def test_wake_ups_and_switches_say_who_and_why(machine: str, program: Program) -> None:
    class Tasks(Listener):
        def __init__(self) -> None:
            self.wakes: Counter[tuple[int, int]] = Counter()
            self.why: Counter[str] = Counter()

        def woken(self, task: Any, by: Any) -> None:
            self.wakes[task.tid, by.tid if by is not None else 0] += 1

        def switched(self, task: Any, cpu: int, before: Any, why: str) -> None:
            assert before is not task and cpu >= 0
            self.why[why] += 1

    tasks = Tasks()
    account = run(program(machine), machine, "ping-pong", listeners=(tasks,))
    first, second = sorted({tid for pair in tasks.wakes for tid in pair if tid})[:2]
    assert tasks.wakes[first, second] >= 1
    assert tasks.wakes.keys() <= {(first, second), (second, first), (first, 0)}
    assert machine == "host" or tasks.why["blocked"] >= 10, "on one CPU, each waits for the other"
    assert account.by("call")["read"].parts[list(PARTS).index("wait")] > 0 or account.by("call")["wait4"].count


def test_the_crossings_of_one_call_come_in_order(program: Program) -> None:
    order: list[str] = []

    class Order(Listener):
        """Everything that is about a task, until the program ends."""

    for name in ("stayed", "trapped", "enter", "observed", "body", "exit", "resumed"):
        setattr(Order, name, lambda self, task, *rest, name=name: order.append(name))
    run(program("host"), "host", "moves", listeners=(Order(),))
    one = ["stayed", "trapped", "enter", "observed", "body", "exit", "resumed"]
    text = " ".join(order)
    assert text.count(" ".join(one)) >= 990


def test_the_command_says_it_in_tables_files_and_pictures(program: Program, tmp_path: Path) -> None:
    path = program("host")
    files = {name: str(tmp_path / name) for name in ("out", "a.json", "b.json", "flame.svg", "flame.txt")}
    shown = ("--bind", f"{path.parent}:{path.parent}")

    def ledger(*words: str) -> support.Result:
        command = [sys.executable, "-m", "trapline", "ledger", *words]
        done = subprocess.run(command, env=support.host_environment(), capture_output=True, timeout=60, check=False)
        return support.Result(done.returncode, done.stdout, done.stderr, " ".join(command))

    got = ledger(*shown, "-o", files["out"], "--save", files["a.json"], "--flame", files["flame.svg"], str(path), "moves")
    assert (got.status, got.stdout, got.stderr) == (0, b"", b""), got.tail()
    table = Path(files["out"]).read_text()
    assert re.search(r"^getppid +1000 ", table, re.M) and re.search(r"^read +10 .* 40960$", table, re.M), table
    assert "probes" in table and "calibrated in this run" in table
    assert all(len(line) <= 80 and line == line.rstrip() for line in table.splitlines())
    assert Path(files["flame.svg"]).read_text().startswith("<svg ")
    got = ledger(*shown, "-f", "--save", files["b.json"], "--flame", files["flame.txt"], "--by", "path", "--json", str(path), "copies")
    paths = {row["path"] for row in json.loads(got.stderr)["rows"]}
    assert got.status == 0 and str(path) not in paths, got.tail()
    assert re.search(r"^\S+;user \d+$", Path(files["flame.txt"]).read_text(), re.M)
    got = ledger("--compare", files["a.json"], files["b.json"])
    assert got.status == 0 and re.search(r"^getppid +1000 .* gone$", got.text, re.M), got.tail()
    got = ledger("--timeout", "0.2", "sleep", "9")
    assert got.status == 124 and b"calibrated in this run" in got.stderr, got.tail()


def test_trap_is_measured_from_the_stubs_own_clock(program: Program) -> None:
    """A stay that ends while the kernel is busy shows as a longer trap, not as a longer stay."""
    class Slow(Listener):
        def exit(self, task: Any, call: Any, args: tuple[int, ...], result: int) -> None:
            if call.name == "getppid":
                time.sleep(0.0001)

    quick = run(program("host"), "host", "moves").by("call")["getppid"]
    slow = run(program("host"), "host", "moves", listeners=(Slow(),)).by("call")["getppid"]
    assert slow.parts[BODY] > 1000 * 100_000 > 0
    assert slow.parts[TRAP] < slow.parts[BODY], "the program was not in user mode, so nothing waited for the kernel"
    assert quick.total_ns < slow.total_ns
