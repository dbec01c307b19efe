"""Clocks, sleeping, interval timers and POSIX timers, on a made-up clock."""

from __future__ import annotations

import struct

import pytest
from little_world import BASE, UNLIMITED, WAITS, World, make_world

from trapline.abi import errno as e
from trapline.abi import signal as s
from trapline.abi import time as t
from trapline.abi.futex import FUTEX_CLOCK_REALTIME, FUTEX_WAIT_BITSET
from trapline.kernel.fs.vfs import Vfs
from trapline.kernel.syscalls import futex as _futex  # noqa: F401
from trapline.kernel.syscalls import settime as _settime  # noqa: F401
from trapline.kernel.syscalls import signal as _signal  # noqa: F401 - declares the calls
from trapline.kernel.syscalls import time as _time  # noqa: F401
from trapline.kernel.syscalls import timer as _timer  # noqa: F401
from trapline.kernel.task import itimers, posix_timers
from trapline.kernel.task.rlimit import watch_cpu_limits
from trapline.kernel.task.signals.action import Action
from trapline.kernel.task.signals.mask import set_blocked
from trapline.kernel.task.signals.pending import take
from trapline.kernel.task.signals.send import SigInfo, send_to_group, send_to_task
from trapline.kernel.task.task import Task

IN, OUT = BASE, BASE + 64
SECOND = 1_000_000_000


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = make_world(monkeypatch)
    world.kernel.vfs = Vfs(world.machine.ram, world.clock.realtime_ns)
    return world


def put(task: Task, *fields: int) -> int:
    task.mm.write(IN, struct.pack("<" + "q" * len(fields), *fields))
    return IN


def got(task: Task, count: int = 2) -> tuple[int, ...]:
    return struct.unpack("<" + "q" * count, task.mm.read(OUT, 8 * count))


def clock(world: World, task: Task, clock_id: int) -> int:
    assert world.call(task, "clock_gettime", clock_id, OUT) == 0
    seconds, nanoseconds = got(task)
    return seconds * SECOND + nanoseconds


def test_clocks_show_the_kernels_time(world: World) -> None:
    task = world.process()
    assert clock(world, task, t.CLOCK_MONOTONIC) == world.clock.now_ns
    assert clock(world, task, t.CLOCK_REALTIME) == world.clock.realtime_ns()
    assert clock(world, task, t.CLOCK_BOOTTIME) == clock(world, task, t.CLOCK_MONOTONIC_RAW) == world.clock.now_ns
    for bad in (10, 12, 99, t.CLOCK_REALTIME_ALARM, -1 << 31):
        assert world.call(task, "clock_gettime", bad, OUT) == -e.EINVAL.number
    assert world.call(task, "clock_gettime", 0, 8) == -e.EFAULT.number


def test_cpu_clocks_add_up_threads_and_the_present_stay_in_user_mode(world: World) -> None:
    a = world.process()
    b = world.thread(a.group)
    a.utime_ns, a.stime_ns, b.utime_ns, a.group.utime_ns = 100, 20, 3, 1000
    assert clock(world, a, t.CLOCK_THREAD_CPUTIME_ID) == 120
    assert clock(world, a, t.CLOCK_PROCESS_CPUTIME_ID) == 1123
    b.on_cpu, b.user_since_ns = True, world.clock.now_ns
    world.clock.advance(7)
    assert clock(world, a, t.CLOCK_PROCESS_CPUTIME_ID) == 1130
    thread = (~b.tid << 3) | t.CPUCLOCK_PERTHREAD | t.CPUCLOCK_VIRT
    assert clock(world, a, thread) == 10
    stranger = world.process()
    assert clock(world, stranger, (~a.group.pid << 3) | t.CPUCLOCK_SCHED) == 1130
    assert world.call(stranger, "clock_gettime", thread, OUT) == -e.EINVAL.number


def test_resolution(world: World) -> None:
    task = world.process()
    for clock_id, ns in ((0, 1), (1, 1), (t.CLOCK_MONOTONIC_COARSE, 4_000_000), (t.CLOCK_PROCESS_CPUTIME_ID, 1)):
        assert world.call(task, "clock_getres", clock_id, OUT) == 0 and got(task) == (0, ns)
    assert world.call(task, "clock_getres", 0, 0) == 0
    assert world.call(task, "clock_getres", 55, 0) == -e.EINVAL.number


def test_time_of_day_can_be_read(world: World) -> None:
    task = world.process(uid=0)
    now = world.clock.realtime_ns()
    assert world.call(task, "gettimeofday", OUT, OUT + 16) == 0
    assert got(task) == (now // SECOND, now % SECOND // 1000)
    assert world.call(task, "time", OUT) == now // SECOND == got(task)[0]
    task.mm.write(IN, bytes(208))
    assert world.call(task, "adjtimex", IN) == t.TIME_ERROR
    assert struct.unpack_from("<qq", task.mm.read(IN + 72, 16)) == (now // SECOND, now % SECOND // 1000)


def test_who_may_set_the_clock_and_to_what(world: World) -> None:
    root, user = world.process(uid=0), world.process(uid=1000)
    too_late = (1 << 63) // SECOND - 946_080_000
    for call in (("clock_settime", 0), ("settimeofday",)):
        name, before = call[0], call[1:]
        after = (0,) if name == "settimeofday" else ()
        assert world.call(user, name, *before, put(user, 2_000_000_000, 0), *after) == -e.EPERM.number
        assert world.call(user, name, *before, put(user, -1, 0), *after) == -e.EINVAL.number
        assert world.call(user, name, *before, put(user, 5, SECOND), *after) == -e.EINVAL.number
        assert world.call(root, name, *before, put(root, 0, 5), *after) == -e.EINVAL.number, "before the computer was started"
        assert world.call(root, name, *before, put(root, too_late, 0), *after) == -e.EINVAL.number
        assert world.call(root, name, *before, put(root, 2_000_000_000, 0), *after) == 0
        assert world.clock.realtime_ns() == 2_000_000_000 * SECOND
        assert world.call(root, name, *before, put(root, 1_900_000_000, 0), *after) == 0
    assert world.call(root, "clock_settime", 1, put(root, 5, 0)) == -e.EINVAL.number
    assert world.call(root, "clock_settime", t.CLOCK_TAI, put(root, 5, 0)) == -e.EINVAL.number
    assert world.call(root, "clock_settime", (~root.group.pid << 3) | 2, put(root, 5, 0)) == -e.EPERM.number


def test_time_zone(world: World) -> None:
    task = world.process(uid=0)
    now = world.clock.realtime_ns()
    task.mm.write(IN, struct.pack("<ii", 901, 0))
    assert world.call(task, "settimeofday", 0, IN) == -e.EINVAL.number
    task.mm.write(IN, struct.pack("<ii", -60, 1))
    assert world.call(task, "settimeofday", 0, IN) == 0
    assert world.clock.realtime_ns() == now - 3600 * SECOND, "the first one, alone, says that the clock shows local time"
    task.mm.write(IN, struct.pack("<ii", 120, 0))
    assert world.call(task, "settimeofday", 0, IN) == 0 and world.clock.realtime_ns() == now - 3600 * SECOND
    assert world.call(task, "gettimeofday", 0, OUT) == 0 and struct.unpack("<ii", task.mm.read(OUT, 8)) == (120, 0)


def adjust(world: World, task: Task, modes: int, seconds: int, fraction: int) -> int:
    values = [0] * 21
    values[0], values[9], values[10] = modes, seconds, fraction
    task.mm.write(IN, t.TIMEX.pack(*values))
    result: int = world.call(task, "adjtimex", IN)
    return result


def test_adjtimex_moves_the_clock_and_nothing_else(world: World) -> None:
    root, user = world.process(uid=0), world.process(uid=1000)
    now = world.clock.realtime_ns()
    assert adjust(world, root, t.ADJ_OFFSET, 0, 0) == -e.EPERM.number, "the rate is the host's"
    assert adjust(world, user, t.ADJ_SETOFFSET, 1, 0) == -e.EPERM.number
    assert adjust(world, root, t.ADJ_SETOFFSET, 1, 1_000_000) == -e.EINVAL.number
    assert adjust(world, root, t.ADJ_SETOFFSET | t.ADJ_NANO, 0, -1) == -e.EINVAL.number
    assert adjust(world, root, t.ADJ_ADJTIME, 0, 0) == -e.EINVAL.number
    assert world.clock.realtime_ns() == now
    assert adjust(world, root, t.ADJ_SETOFFSET, -1, 250_000) == t.TIME_ERROR
    assert world.clock.realtime_ns() == now - SECOND * 3 // 4
    assert adjust(world, root, t.ADJ_SETOFFSET | t.ADJ_NANO, 0, 7) == t.TIME_ERROR
    assert world.clock.realtime_ns() == now - SECOND * 3 // 4 + 7


def test_who_waits_for_a_point_of_time_follows_when_the_clock_is_set(world: World) -> None:
    root, sleeper, lasting, futex = world.process(uid=0), world.process(), world.process(), world.process()
    now = world.clock.realtime_ns() // SECOND
    assert world.call(sleeper, "clock_nanosleep", 0, t.TIMER_ABSTIME, put(sleeper, now + 3600, 0), 0) == WAITS
    assert world.call(lasting, "clock_nanosleep", 0, 0, put(lasting, 10, 0), 0) == WAITS
    wait = FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME
    assert world.call(futex, "futex", OUT, wait, 0, put(futex, now + 3700, 0), 0, 0xFFFFFFFF) == WAITS
    assert world.call(root, "clock_settime", 0, put(root, now + 3599, 0)) == 0
    world.pass_time(SECOND)
    assert world.results.pop(sleeper) == 0 and lasting not in world.results and futex not in world.results
    world.pass_time(9 * SECOND)
    assert world.results[lasting] == 0 and futex not in world.results
    world.pass_time(91 * SECOND)
    assert world.results[futex] == -e.ETIMEDOUT.number


def test_timers_on_the_clock_that_is_set(world: World) -> None:
    task = world.process(uid=0)
    now = world.clock.realtime_ns() // SECOND
    numbers = []
    for absolute, value in ((1, now + 100), (0, 100)):
        assert world.call(task, "timer_create", 0, 0, OUT) == 0
        numbers.append(got(task, 1)[0] & 0xFFFFFFFF)
        assert world.call(task, "timer_settime", numbers[-1], absolute, put(task, 0, 0, value, 0), 0) == 0
    assert world.call(task, "clock_settime", 0, put(task, now + 40, 0)) == 0
    for number, left in zip(numbers, (60, 100), strict=True):
        assert world.call(task, "timer_gettime", number, OUT) == 0 and got(task, 4)[2:] == (left, 0)


def test_times_counts_in_ticks(world: World) -> None:
    task = world.process()
    task.utime_ns, task.stime_ns, task.group.cutime_ns, task.group.cstime_ns = (n * 10_000_000 for n in (1, 2, 3, 4))
    assert world.call(task, "times", OUT) == world.clock.now_ns // 10_000_000
    assert got(task, 4) == (1, 2, 3, 4)
    assert world.call(task, "times", 0) > 0


# ---- sleeping


def test_nanosleep_sleeps_just_as_long(world: World) -> None:
    task = world.process()
    assert world.call(task, "nanosleep", put(task, 0, 0), 0) == 0
    assert world.call(task, "nanosleep", put(task, 1, 5), 0) == WAITS
    world.pass_time(SECOND + 4)
    assert task not in world.results or world.results.pop(task) == 0
    world.pass_time(1)
    assert world.results[task] == 0
    for bad in ((-1, 0), (0, -1), (0, SECOND)):
        assert world.call(task, "nanosleep", put(task, *bad), 0) == -e.EINVAL.number


def test_an_interrupted_nanosleep_tells_what_is_left(world: World) -> None:
    task = world.process()
    task.group.actions.table[s.SIGUSR1] = Action(0x500000, s.SA_RESTORER | s.SA_RESTART, 0x600000)
    assert world.call(task, "nanosleep", put(task, 2, 0), OUT) == WAITS
    world.pass_time(SECOND)
    send_to_task(task, SigInfo(s.SIGUSR1))
    world.settle()
    assert got(task) == (1, 0)
    task.ctx.regs[15] += 8
    assert world.call(task, "rt_sigreturn") == -e.EINTR.number
    assert world.call(task, "restart_syscall") == -e.EINTR.number, "the handler ended the call for good"


def test_a_stop_continues_nanosleep_to_the_same_end(world: World) -> None:
    task = world.process()
    assert world.call(task, "nanosleep", put(task, 2, 0), 0) == WAITS
    send_to_group(task.group, SigInfo(s.SIGSTOP))
    world.settle()
    world.pass_time(SECOND)
    send_to_group(task.group, SigInfo(s.SIGCONT))
    world.settle()
    assert world.again(task) == WAITS
    world.pass_time(SECOND)
    assert world.results[task] == 0


def test_clock_nanosleep_until_a_point_of_a_clock(world: World) -> None:
    task = world.process()
    call = ("clock_nanosleep", t.CLOCK_REALTIME, t.TIMER_ABSTIME)
    when = world.clock.realtime_ns() // SECOND + 10
    assert world.call(task, *call, put(task, when, 0), 0) == WAITS
    world.pass_time(11 * SECOND)
    assert world.results[task] == 0
    assert world.call(task, *call, put(task, 1, 0), 0) == 0, "past: at once"
    for clock_id, error in (
        (t.CLOCK_THREAD_CPUTIME_ID, e.ENOTSUP), (t.CLOCK_MONOTONIC_RAW, e.ENOTSUP), (99, e.EINVAL),
        (~0 << 3 | t.CPUCLOCK_PERTHREAD | t.CPUCLOCK_SCHED, e.EINVAL),
    ):  # fmt: skip
        assert world.call(task, "clock_nanosleep", clock_id, 0, put(task, 1, 0), 0) == -error.number


def test_sleeping_on_cpu_time_ends_when_others_used_it(world: World) -> None:
    a = world.process()
    b = world.thread(a.group)
    assert world.call(a, "clock_nanosleep", t.CLOCK_PROCESS_CPUTIME_ID, 0, put(a, 0, 10_000_000), 0) == WAITS
    world.pass_time(50_000_000)
    assert a not in world.results
    b.utime_ns += 10_000_000
    world.pass_time(50_000_000)
    assert world.results[a] == 0


# ---- interval timers


def test_an_interval_timer_repeats_when_its_signal_is_taken(world: World) -> None:
    task = world.process()
    set_blocked(task, s.bit(s.SIGALRM))
    assert world.call(task, "setitimer", 0, put(task, 0, 100_000, 1, 0), 0) == 0
    assert world.call(task, "getitimer", 0, OUT) == 0 and got(task, 4) == (0, 100_000, 1, 0)
    world.pass_time(SECOND)
    info = take(task, UNLIMITED)
    assert info is not None and info.signo == s.SIGALRM
    world.clock.advance(50_000_000)
    assert world.call(task, "getitimer", 0, OUT) == 0 and got(task, 4) == (0, 100_000, 0, 50_000)
    world.pass_time(50_000_000)
    assert task.group.pending.mask == s.bit(s.SIGALRM)
    world.pass_time(100 * SECOND)
    assert len(task.group.pending) == 1 and world.kernel.timers.next_deadline_ns() is None
    assert world.call(task, "setitimer", 0, 0, OUT) == 0
    take(task, UNLIMITED)
    assert world.kernel.timers.next_deadline_ns() is None, "stopped: taking an old signal does not start it again"
    assert world.call(task, "setitimer", 0, put(task, 0, 0, 0, 1_000_000), 0) == -e.EINVAL.number
    assert world.call(task, "setitimer", 3, put(task, 0, 0, 0, 0), 0) == -e.EINVAL.number


def test_an_ignored_interval_timer_ticks_no_faster_than_a_millisecond(world: World) -> None:
    task = world.process()
    task.group.actions.table[s.SIGALRM] = Action(s.SIG_IGN)
    assert world.call(task, "setitimer", 0, put(task, 0, 1, 0, 1), 0) == 0
    world.pass_time(10_000)
    deadline = world.kernel.timers.next_deadline_ns()
    assert deadline is not None and deadline - world.clock.now_ns >= 1_000_000 - 1000


def test_alarm_rounds_and_replaces(world: World) -> None:
    task = world.process()
    assert world.call(task, "alarm", 10) == 0
    world.pass_time(SECOND * 2 // 5)
    assert world.call(task, "alarm", 5) == 10
    world.pass_time(4 * SECOND + 900_000_000)
    assert world.call(task, "alarm", 0) == 1
    world.pass_time(100 * SECOND)
    assert not task.group.pending.mask


def test_virtual_and_profiling_timers_count_cpu_time(world: World) -> None:
    task = world.process()
    set_blocked(task, s.mask_of(s.SIGVTALRM, s.SIGPROF))
    for which in (1, 2):
        assert world.call(task, "setitimer", which, put(task, 0, 0, 0, 10_000), 0) == 0
    world.pass_time(SECOND)
    assert not task.group.pending.mask
    task.stime_ns += 10_000_000
    world.pass_time(SECOND)
    assert task.group.pending.mask == s.bit(s.SIGPROF)
    task.on_cpu, task.user_since_ns = True, world.clock.now_ns
    world.pass_time(20_000_000)
    assert task.group.pending.mask == s.mask_of(s.SIGPROF, s.SIGVTALRM)
    task.on_cpu = False
    itimers.release(task.group)
    assert task.group.itimers is None


# ---- POSIX timers


def create(world: World, task: Task, clock_id: int = 1, notify: int = s.SIGEV_SIGNAL, signo: int = 40, tid: int = 0) -> int:
    task.mm.write(IN, s.SIGEVENT.pack(0xABCD, signo, notify, tid))
    assert world.call(task, "timer_create", clock_id, IN, OUT) == 0
    return task.mm.read_u32(OUT)


def test_a_posix_timer_counts_overruns(world: World) -> None:
    task = world.process()
    set_blocked(task, s.bit(40))
    timer = create(world, task)
    assert world.call(task, "timer_settime", timer, 0, put(task, 0, 1000, 1, 0), 0) == 0
    world.pass_time(SECOND + 5500)
    info = take(task, UNLIMITED)
    assert info is not None and info.overrun == 5 and world.call(task, "timer_getoverrun", timer) == 5
    assert s.SIGINFO_TIMER.unpack(info.pack()) == (40, 0, s.SI_TIMER, 0, timer, 5, 0xABCD)
    world.pass_time(500)
    info = take(task, UNLIMITED)
    assert info is not None and info.overrun == 0
    assert world.call(task, "timer_delete", timer) == 0
    world.pass_time(SECOND)
    assert take(task, UNLIMITED) is None
    assert world.call(task, "timer_delete", timer) == -e.EINVAL.number


def test_one_shot_absolute_and_disarmed(world: World) -> None:
    task = world.process()
    set_blocked(task, s.bit(40))
    timer = create(world, task, t.CLOCK_REALTIME)
    when = world.clock.realtime_ns() + 3 * SECOND
    put(task, 0, 0, when // SECOND, when % SECOND)
    assert world.call(task, "timer_settime", timer, t.TIMER_ABSTIME, IN, 0) == 0
    world.pass_time(SECOND)
    assert world.call(task, "timer_gettime", timer, OUT) == 0 and got(task, 4) == (0, 0, 2, 0)
    assert world.call(task, "timer_settime", timer, 0, put(task, 5, 0, 0, 0), OUT) == 0
    assert got(task, 4) == (0, 0, 2, 0)
    world.pass_time(10 * SECOND)
    assert not task.group.pending.mask
    assert world.call(task, "timer_gettime", timer, OUT) == 0 and got(task, 4) == (0, 0, 0, 0)
    assert world.call(task, "timer_settime", timer, 0, put(task, 0, SECOND, 0, 0), 0) == -e.EINVAL.number


def test_timers_may_name_a_thread_or_nobody(world: World) -> None:
    a = world.process()
    b = world.thread(a.group)
    for each in (a, b):
        set_blocked(each, s.bit(40))
    timer = create(world, a, notify=s.SIGEV_THREAD_ID, tid=b.tid)
    silent = create(world, a, notify=s.SIGEV_NONE, signo=0)
    for each in (timer, silent):
        assert world.call(a, "timer_settime", each, 0, put(a, 2, 0, 1, 0), 0) == 0
    world.pass_time(SECOND + 1)
    assert b.pending.mask == s.bit(40) and not a.group.pending.mask
    assert world.call(a, "timer_gettime", silent, OUT) == 0 and got(a, 4) == (2, 0, 1, SECOND - 1)
    for notify, signo, tid in ((s.SIGEV_SIGNAL, 0, 0), (s.SIGEV_SIGNAL, 65, 0), (77, 1, 0), (4, 40, 9999)):
        a.mm.write(IN, s.SIGEVENT.pack(0, signo, notify, tid))
        assert world.call(a, "timer_create", 1, IN, OUT) == -e.EINVAL.number
    assert world.call(a, "timer_create", t.CLOCK_MONOTONIC_RAW, 0, OUT) == -e.ENOTSUP.number
    assert world.call(a, "timer_create", 44, 0, OUT) == -e.EINVAL.number
    posix_timers.release(a.group)
    assert world.call(a, "timer_delete", timer) == -e.EINVAL.number


def test_the_default_event_is_sigalrm_with_the_timers_number(world: World) -> None:
    task = world.process()
    set_blocked(task, s.bit(s.SIGALRM))
    create(world, task)
    assert world.call(task, "timer_create", 1, 0, OUT) == 0
    timer = task.mm.read_u32(OUT)
    assert world.call(task, "timer_settime", timer, 0, put(task, 0, 0, 0, 1), 0) == 0
    world.pass_time(SECOND)
    info = take(task, UNLIMITED)
    assert info is not None and (info.signo, info.value, info.code) == (s.SIGALRM, timer, s.SI_TIMER)


def test_rlimit_cpu_warns_every_second_and_then_kills(world: World) -> None:
    task = world.process()
    set_blocked(task, s.bit(s.SIGXCPU))
    task.group.rlimits[0] = (1, 3)
    watch_cpu_limits(task.group)
    for _ in range(2):
        task.utime_ns += SECOND
        world.pass_time(SECOND)
        assert take(task, UNLIMITED) is not None and not world.exits
    task.utime_ns += SECOND
    world.pass_time(SECOND)
    assert world.exits == [(task.group, s.SIGKILL)]
    itimers.release(task.group)
    assert world.kernel.timers.next_deadline_ns() is None
