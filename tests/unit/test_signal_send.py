"""Who gets a signal, what is dropped, what queues, who may send."""

from __future__ import annotations

from typing import Any

import pytest
from little_world import BASE, WAITS, World, make_world

from trapline.abi import errno as e
from trapline.abi import signal as s
from trapline.kernel.syscalls import kill as _kill  # noqa: F401 - declares the calls
from trapline.kernel.syscalls import signal as _signal  # noqa: F401
from trapline.kernel.task.signals.action import Action
from trapline.kernel.task.signals.mask import set_blocked
from trapline.kernel.task.signals.pending import Pending, take
from trapline.kernel.task.signals.send import SigInfo, queued_by, send_to_group, send_to_task
from trapline.kernel.task.signals.siginfo import from_user
from trapline.kernel.task.task import STOPPED, WORK_EXIT, WORK_SIGNAL, Task

CATCH = Action(0x401000, s.SA_RESTORER, 0x402000, 0)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return make_world(monkeypatch)


def catch(task: Task, *signals: int) -> None:
    for signo in signals:
        task.group.actions.table[signo] = CATCH


def test_standard_signals_do_not_queue_and_real_time_signals_do() -> None:
    pending = Pending()
    assert pending.add(SigInfo(s.SIGUSR1)) and not pending.add(SigInfo(s.SIGUSR1))
    assert pending.add(SigInfo(40, value=1)) and pending.add(SigInfo(40, value=2))
    everything = (1 << 64) - 1
    taken = [pending.take(everything) for _ in range(4)]
    assert [each and (each.signo, each.value) for each in taken] == [(s.SIGUSR1, 0), (40, 1), (40, 2), None]
    assert pending.mask == 0


def test_synchronous_signals_come_first_then_the_lowest() -> None:
    pending = Pending()
    for signo in (s.SIGHUP, 64, s.SIGSEGV, 34):
        pending.add(SigInfo(signo))
    order = [info.signo for info in iter(lambda: pending.take((1 << 64) - 1), None)]
    assert order == [s.SIGSEGV, s.SIGHUP, 34, 64]


def test_ignored_signals_are_dropped_unless_blocked(world: World) -> None:
    task = world.process()
    assert not send_to_group(task.group, SigInfo(s.SIGCHLD))
    set_blocked(task, s.bit(s.SIGCHLD))
    assert send_to_group(task.group, SigInfo(s.SIGCHLD))
    assert task.group.pending.mask == s.bit(s.SIGCHLD) and not task.work


def test_a_group_signal_wakes_a_thread_that_does_not_block_it(world: World) -> None:
    main = world.process()
    other = world.thread(main.group)
    catch(main, s.SIGUSR1)
    set_blocked(main, s.bit(s.SIGUSR1))
    assert world.call(other, "pause") == WAITS
    send_to_group(main.group, SigInfo(s.SIGUSR1))
    assert other.work & WORK_SIGNAL and not main.work
    world.settle()
    assert world.results[other] == 0 and other.ctx.regs[16] == CATCH.handler


def test_blocking_a_pending_group_signal_hands_it_to_another_thread(world: World) -> None:
    main = world.process()
    other = world.thread(main.group)
    catch(main, s.SIGUSR1)
    send_to_group(main.group, SigInfo(s.SIGUSR1))
    assert main.work & WORK_SIGNAL and not other.work
    other.on_cpu = True
    set_blocked(main, s.bit(s.SIGUSR1))
    assert not main.work and other.work & WORK_SIGNAL and world.kicked == [other]


def test_a_thread_on_a_cpu_is_kicked(world: World) -> None:
    task = world.process()
    catch(task, s.SIGUSR1)
    task.on_cpu = True
    send_to_task(task, SigInfo(s.SIGUSR1))
    assert world.kicked == [task]


def test_sigkill_begins_the_exit_at_once_even_when_stopped(world: World) -> None:
    task = world.process()
    task.state = STOPPED
    send_to_group(task.group, SigInfo(s.SIGKILL))
    assert world.exits == [(task.group, s.SIGKILL)] and task.work & WORK_EXIT
    assert not send_to_group(task.group, SigInfo(s.SIGTERM)), "nothing is sent to who exits"


def test_kill_reaches_processes_groups_and_everybody(world: World) -> None:
    a, b, c = world.process(), world.process(), world.process()
    b.group.pgid = a.group.pgid
    for each in (a, b, c):
        catch(each, s.SIGUSR1)
    assert world.call(a, "kill", 0, 0) == 0
    assert world.call(c, "kill", -a.group.pgid, s.SIGUSR1) == 0
    assert a.work & WORK_SIGNAL and b.work & WORK_SIGNAL and not c.work
    assert world.call(a, "kill", -1, s.SIGUSR1) == 0
    assert c.group.pending.mask, "everybody but init and the sender"
    assert world.call(a, "kill", 9999, 0) == -e.ESRCH.number
    assert world.call(a, "kill", -9999, 0) == -e.ESRCH.number
    assert world.call(a, "kill", -(1 << 31), 0) == -e.ESRCH.number
    assert world.call(world.process(), "kill", a.group.pid, 65) == -e.EINVAL.number


def test_the_kernels_init_takes_signals_and_does_nothing(world: World) -> None:
    task = world.process(uid=0)
    assert world.call(task, "kill", 1, s.SIGKILL) == 0
    assert not world.exits


def test_permission_is_by_uid_and_sigcont_by_session(world: World) -> None:
    mine, theirs = world.process(uid=1), world.process(uid=2)
    assert world.call(mine, "kill", theirs.tid, s.SIGTERM) == -e.EPERM.number
    assert world.call(mine, "kill", theirs.tid, s.SIGCONT) == -e.EPERM.number
    theirs.group.sid = mine.group.sid
    assert world.call(mine, "kill", theirs.tid, s.SIGCONT) == 0
    assert world.call(world.process(uid=0), "kill", theirs.tid, 0) == 0


def test_tgkill_checks_that_the_thread_is_of_the_process(world: World) -> None:
    main, stranger = world.process(), world.process()
    other = world.thread(main.group)
    catch(main, s.SIGUSR1)
    assert world.call(main, "tgkill", main.group.pid, other.tid, s.SIGUSR1) == 0
    info = take(other, (1 << 64) - 1)
    assert info is not None and (info.code, info.pid) == (s.SI_TKILL, main.group.pid)
    assert world.call(main, "tgkill", stranger.tid, other.tid, 0) == -e.ESRCH.number
    assert world.call(main, "tgkill", 0, other.tid, 0) == -e.EINVAL.number
    assert world.call(main, "tkill", -3, 0) == -e.EINVAL.number
    assert world.call(main, "kill", other.tid, 0) == 0, "a thread's number names its process"


def queue_info(task: Task, code: int, value: int = 7) -> None:
    task.mm.write(BASE, s.SIGINFO_QUEUE.pack(99, 0, code, 0, 5, 6, value))


def test_sigqueue_carries_data_and_may_not_forge(world: World) -> None:
    me, other = world.process(), world.process()
    queue_info(me, s.SI_QUEUE)
    catch(other, 40)
    assert world.call(me, "rt_sigqueueinfo", other.tid, 40, BASE) == 0
    info = take(other, (1 << 64) - 1)
    assert info is not None and (info.signo, info.value, info.pid) == (40, 7, 5)
    assert s.SIGINFO_QUEUE.unpack(info.pack())[:3] == (40, 0, s.SI_QUEUE)
    for code in (s.SI_USER, s.SI_TKILL, s.SI_KERNEL, s.CLD_EXITED):
        queue_info(me, code)
        assert world.call(me, "rt_sigqueueinfo", other.tid, 40, BASE) == -e.EPERM.number
        assert world.call(me, "rt_tgsigqueueinfo", me.tid, me.tid, 0, BASE) == 0, "to oneself anything goes"
    assert world.call(me, "rt_sigqueueinfo", me.tid, -1, BASE) == -e.EINVAL.number
    assert world.call(me, "rt_sigqueueinfo", me.tid, 40, 8) == -e.EFAULT.number


def test_rlimit_sigpending_refuses_sigqueue_but_not_kill(world: World) -> None:
    me = world.process()
    set_blocked(me, s.bit(40))
    me.group.rlimits[11] = (2, 2)
    queue_info(me, s.SI_QUEUE)
    assert [world.call(me, "rt_sigqueueinfo", me.tid, 40, BASE) for _ in range(3)] == [0, 0, -e.EAGAIN.number]
    assert queued_by(me) == 2
    assert world.call(me, "kill", me.tid, s.SIGCONT) == 0


@pytest.mark.parametrize(
    ("info", "layout"),
    [
        (SigInfo(s.SIGTERM, s.SI_USER, pid=3, uid=4), s.SIGINFO_KILL),
        (SigInfo(s.SIGSEGV, s.SEGV_MAPERR, addr=0xDEAD0000BEEF), s.SIGINFO_FAULT),
        (SigInfo(s.SIGCHLD, s.CLD_EXITED, pid=3, uid=4, status=9, utime=1, stime=2), s.SIGINFO_CHILD),
        (SigInfo(s.SIGIO, s.POLL_IN, band=0x41, fd=5), s.SIGINFO_POLL),
        (SigInfo(s.SIGSYS, s.SYS_SECCOMP, addr=1, syscall=39, arch=0xC000003E), s.SIGINFO_SYS),
        (SigInfo(s.SIGALRM, s.SI_TIMER, tid=1, overrun=2, value=3), s.SIGINFO_TIMER),
        (SigInfo(40, s.SI_QUEUE, pid=1, uid=2, value=3), s.SIGINFO_QUEUE),
    ],
)
def test_siginfo_is_128_bytes_with_the_member_its_code_names(info: SigInfo, layout: Any) -> None:
    raw = info.pack()
    assert len(raw) == 128
    fields = layout.unpack(raw)
    assert fields[:3] == (info.signo, 0, info.code)
    named = {each for each in info[2:14] if each}
    assert named <= set(fields[3:]), "every field is there"
    assert from_user(raw, info.signo)[2:10] == info[2:10]


def test_ignoring_a_signal_discards_what_is_pending_of_it(world: World) -> None:
    task = world.process()
    set_blocked(task, s.bit(s.SIGUSR1))
    send_to_group(task.group, SigInfo(s.SIGUSR1))
    task.mm.write(BASE, s.SIGACTION.pack(s.SIG_IGN, 0, 0, 0))
    assert world.call(task, "rt_sigaction", s.SIGUSR1, BASE, 0, 8) == 0
    assert not task.group.pending.mask
