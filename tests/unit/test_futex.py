"""Futexes: waiting, waking, moving, locks with an owner, and what dying tasks leave behind."""

from __future__ import annotations

import struct
from itertools import pairwise

import pytest
from little_world import BASE, UNLIMITED, WAITS, FlatMemory, World, make_world

from trapline.abi import errno as e
from trapline.abi import futex as f
from trapline.abi import signal as s
from trapline.abi.sched import MAX_PRIO, SCHED_FIFO
from trapline.kernel.ipc.futex import exit_robust_list, inherit, wake
from trapline.kernel.ipc.futex.inherit import LOCKS, OWNED
from trapline.kernel.ipc.futex.queue import PI_KEYS, QUEUES
from trapline.kernel.syscalls import futex as _futex  # noqa: F401 - declares the calls
from trapline.kernel.syscalls import signal as _signal  # noqa: F401
from trapline.kernel.task.signals.action import Action
from trapline.kernel.task.signals.send import SigInfo, send_to_group, send_to_task
from trapline.kernel.task.task import Task

WORD, WORD2, TIME = BASE, BASE + 64, BASE + 128
PRIVATE = f.FUTEX_PRIVATE_FLAG
SECOND = 1_000_000_000


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    QUEUES.clear()
    LOCKS.clear()
    OWNED.clear()
    PI_KEYS.clear()
    inherit._waits_for.clear()
    return make_world(monkeypatch)


def threads(world: World, count: int) -> list[Task]:
    main = world.process()
    return [main, *(world.thread(main.group) for _ in range(count - 1))]


def futex(world: World, task: Task, op: int, val: int = 0, timeout: int = 0, uaddr2: int = 0, val3: int = 0, at: int = WORD):
    return world.call(task, "futex", at, op | PRIVATE, val, timeout, uaddr2, val3)


def set_time(task: Task, ns: int) -> int:
    task.mm.write(TIME, struct.pack("<qq", ns // SECOND, ns % SECOND))
    return TIME


def test_waiters_wake_in_order(world: World) -> None:
    a, b, c = threads(world, 3)
    assert futex(world, a, f.FUTEX_WAKE, 1) == 0
    assert futex(world, a, f.FUTEX_WAIT, 0) == WAITS
    assert futex(world, b, f.FUTEX_WAIT, 0) == WAITS
    assert futex(world, c, f.FUTEX_WAIT, 1) == -e.EAGAIN.number
    assert futex(world, c, f.FUTEX_WAKE, 1) == 1
    world.settle()
    assert world.results.get(a) == 0 and b not in world.results
    assert futex(world, c, f.FUTEX_WAKE, 100) == 1 and not QUEUES


def test_private_and_shared_words_are_different(world: World) -> None:
    a, b = threads(world, 2)
    other = world.process()
    other.mm = FlatMemory(a.mm.data)  # type: ignore[attr-defined,assignment]
    assert futex(world, a, f.FUTEX_WAIT) == WAITS
    assert world.call(b, "futex", WORD, f.FUTEX_WAKE, 9) == 0
    assert world.call(b, "futex", WORD, f.FUTEX_WAIT, 0, 0) == WAITS
    assert world.call(other, "futex", WORD, f.FUTEX_WAKE, 9) == 1, "the same memory in another process"
    assert wake(a.mm, WORD, shared=False) == 1


def test_errors(world: World) -> None:
    (a,) = threads(world, 1)
    assert futex(world, a, f.FUTEX_WAIT, at=WORD + 2) == -e.EINVAL.number
    assert futex(world, a, f.FUTEX_WAKE, at=WORD + 2) == -e.EINVAL.number
    assert futex(world, a, f.FUTEX_WAIT, at=0x1000) == -e.EFAULT.number
    assert world.call(a, "futex", 0x1000, f.FUTEX_WAKE, 1) == -e.EFAULT.number
    assert futex(world, a, f.FUTEX_FD) == -e.ENOSYS.number and futex(world, a, 77) == -e.ENOSYS.number
    assert futex(world, a, f.FUTEX_WAIT | f.FUTEX_CLOCK_REALTIME) == -e.ENOSYS.number
    assert futex(world, a, f.FUTEX_WAIT_BITSET, val3=0) == -e.EINVAL.number
    assert futex(world, a, f.FUTEX_WAKE_BITSET, val3=0) == -e.EINVAL.number
    a.mm.write(TIME, struct.pack("<qq", 0, SECOND))
    assert futex(world, a, f.FUTEX_WAIT, timeout=TIME) == -e.EINVAL.number
    assert futex(world, a, f.FUTEX_REQUEUE, val=UNLIMITED, uaddr2=WORD2) == -e.EINVAL.number


def test_relative_and_absolute_time_outs(world: World) -> None:
    (a,) = threads(world, 1)
    assert futex(world, a, f.FUTEX_WAIT, timeout=set_time(a, SECOND)) == WAITS
    world.pass_time(SECOND - 1)
    assert a not in world.results
    world.pass_time(1)
    assert world.results.pop(a) == -e.ETIMEDOUT.number and not QUEUES
    for flag, now in ((0, world.clock.monotonic_ns()), (f.FUTEX_CLOCK_REALTIME, world.clock.realtime_ns())):
        timeout = set_time(a, now + SECOND)
        assert futex(world, a, f.FUTEX_WAIT_BITSET | flag, timeout=timeout, val3=UNLIMITED) == WAITS
        world.pass_time(SECOND)
        assert world.results.pop(a) == -e.ETIMEDOUT.number
        world.clock.now_ns -= SECOND


def test_bit_sets_choose(world: World) -> None:
    a, b, c = threads(world, 3)
    assert futex(world, a, f.FUTEX_WAIT_BITSET, val3=1) == WAITS
    assert futex(world, b, f.FUTEX_WAIT_BITSET, val3=2) == WAITS
    assert futex(world, c, f.FUTEX_WAKE_BITSET, 9, val3=2) == 1
    world.settle()
    assert b in world.results and a not in world.results


def test_a_stop_continues_a_timed_wait_to_the_same_deadline(world: World) -> None:
    a, b = threads(world, 2)
    assert futex(world, a, f.FUTEX_WAIT, timeout=set_time(a, 2 * SECOND)) == WAITS
    world.pass_time(SECOND)
    send_to_group(a.group, SigInfo(s.SIGSTOP))
    world.settle()
    world.leave(b)
    send_to_group(a.group, SigInfo(s.SIGCONT))
    world.settle()
    assert world.again(a) == WAITS and QUEUES
    world.pass_time(SECOND)
    assert world.results[a] == -e.ETIMEDOUT.number


def test_a_handler_ends_a_timed_wait_and_restarts_one_without_time_out(world: World) -> None:
    (a,) = threads(world, 1)
    a.group.actions.table[s.SIGUSR1] = Action(0x500000, s.SA_RESTORER | s.SA_RESTART, 0x600000)
    for timeout, want in ((set_time(a, SECOND), -e.EINTR.number), (0, 202)):
        assert futex(world, a, f.FUTEX_WAIT, timeout=timeout) == WAITS
        send_to_task(a, SigInfo(s.SIGUSR1))
        world.settle()
        assert not QUEUES
        a.ctx.regs[15] += 8
        assert world.call(a, "rt_sigreturn") == want


def test_a_wake_up_is_not_lost_to_a_waiter_that_a_signal_woke_first(world: World) -> None:
    a, b, c = threads(world, 3)
    a.group.actions.table[s.SIGUSR1] = Action(0x500000, s.SA_RESTORER, 0x600000)
    assert futex(world, a, f.FUTEX_WAIT) == WAITS and futex(world, b, f.FUTEX_WAIT) == WAITS
    send_to_task(a, SigInfo(s.SIGUSR1))
    assert futex(world, c, f.FUTEX_WAKE, 1) == 1
    world.settle()
    assert world.results[b] == 0


def test_requeue_moves_and_checks(world: World) -> None:
    a, b, c, d = threads(world, 4)
    for each in (a, b, c):
        assert futex(world, each, f.FUTEX_WAIT) == WAITS
    assert futex(world, d, f.FUTEX_CMP_REQUEUE, 1, 9, WORD2, val3=5) == -e.EAGAIN.number
    assert futex(world, d, f.FUTEX_CMP_REQUEUE, 1, 1, WORD2, val3=0) == 2
    world.settle()
    assert a in world.results and b not in world.results
    assert futex(world, d, f.FUTEX_WAKE, 9, at=WORD2) == 1
    assert futex(world, d, f.FUTEX_REQUEUE, 0, 9, WORD2) == 1
    assert futex(world, d, f.FUTEX_WAKE, 9, at=WORD2) == 1 and not QUEUES


@pytest.mark.parametrize(
    ("operation", "argument", "old", "new"),
    [
        (f.FUTEX_OP_SET, 7, 1, 7), (f.FUTEX_OP_ADD, -1, 1, 0), (f.FUTEX_OP_OR, 6, 1, 7),
        (f.FUTEX_OP_ANDN, 1, 3, 2), (f.FUTEX_OP_XOR, 3, 1, 2), (f.FUTEX_OP_OR | f.FUTEX_OP_OPARG_SHIFT, 4, 0, 16),
    ],
)  # fmt: skip
def test_wake_op_changes_the_second_word(world: World, operation: int, argument: int, old: int, new: int) -> None:
    a, b, c = threads(world, 3)
    assert futex(world, a, f.FUTEX_WAIT) == WAITS
    assert futex(world, b, f.FUTEX_WAIT, at=WORD2) == WAITS
    c.mm.write_u32(WORD2, old)
    op = operation << 28 | f.FUTEX_OP_CMP_EQ << 24 | (argument & 0xFFF) << 12 | old
    assert futex(world, c, f.FUTEX_WAKE_OP, 1, 1, WORD2, op) == 2
    assert c.mm.read_u32(WORD2) == new
    op ^= 1  # compares with something else now
    assert futex(world, c, f.FUTEX_WAKE_OP, 1, 1, WORD2, op) == 0
    assert futex(world, c, f.FUTEX_WAKE_OP, 1, 1, WORD2, 7 << 28) == -e.ENOSYS.number


def test_waitv_returns_the_index_that_was_woken(world: World) -> None:
    a, b = threads(world, 2)
    vector = BASE + 512
    entry = f.FUTEX_WAITV.pack(0, WORD, f.FUTEX2_SIZE_U32 | PRIVATE, 0) + f.FUTEX_WAITV.pack(
        0, WORD2, f.FUTEX2_SIZE_U32 | PRIVATE, 0
    )
    a.mm.write(vector, entry)
    assert world.call(a, "futex_waitv", vector, 2, 0, 0, 0) == WAITS
    assert futex(world, b, f.FUTEX_WAKE, 1, at=WORD2) == 1
    world.settle()
    assert world.results[a] == 1 and not QUEUES
    a.mm.write_u32(WORD2, 1)
    assert world.call(a, "futex_waitv", vector, 2, 0, 0, 0) == -e.EAGAIN.number
    assert world.call(a, "futex_waitv", vector, 1, 0, set_time(a, SECOND), 1) == WAITS
    world.pass_time(10 * SECOND)
    assert world.results[a] == -e.ETIMEDOUT.number
    for args in ((vector, 0, 0, 0, 0), (vector, 129, 0, 0, 0), (vector, 1, 1, 0, 0), (vector, 1, 0, TIME, 3)):
        assert world.call(a, "futex_waitv", *args) == -e.EINVAL.number
    assert not QUEUES


# ---- locks with an owner


def test_a_free_lock_is_taken_and_handed_over(world: World) -> None:
    a, b, c = threads(world, 3)
    assert futex(world, a, f.FUTEX_LOCK_PI) == 0
    assert a.mm.read_u32(WORD) == a.tid
    assert futex(world, a, f.FUTEX_LOCK_PI) == -e.EDEADLOCK.number
    assert futex(world, b, f.FUTEX_TRYLOCK_PI) == -e.EAGAIN.number
    assert futex(world, b, f.FUTEX_UNLOCK_PI) == -e.EPERM.number
    assert futex(world, b, f.FUTEX_LOCK_PI) == WAITS and futex(world, c, f.FUTEX_LOCK_PI) == WAITS
    assert a.mm.read_u32(WORD) == a.tid | f.FUTEX_WAITERS
    assert futex(world, a, f.FUTEX_WAKE, 1) == -e.EINVAL.number
    assert futex(world, a, f.FUTEX_UNLOCK_PI) == 0
    world.settle()
    assert world.results[b] == 0 and a.mm.read_u32(WORD) == b.tid | f.FUTEX_WAITERS
    assert futex(world, b, f.FUTEX_UNLOCK_PI) == 0
    world.settle()
    assert world.results[c] == 0 and futex(world, c, f.FUTEX_UNLOCK_PI) == 0
    assert a.mm.read_u32(WORD) == 0 and not LOCKS and not PI_KEYS


def test_lock_time_outs_and_owners_that_do_not_exist(world: World) -> None:
    a, b = threads(world, 2)
    a.mm.write_u32(WORD, 9999)
    assert futex(world, a, f.FUTEX_LOCK_PI) == -e.ESRCH.number
    a.mm.write_u32(WORD, b.tid)
    timeout = set_time(a, world.clock.realtime_ns() + SECOND)
    assert futex(world, a, f.FUTEX_LOCK_PI, timeout=timeout) == WAITS
    world.pass_time(SECOND)
    assert world.results[a] == -e.ETIMEDOUT.number and not LOCKS
    assert futex(world, b, f.FUTEX_UNLOCK_PI) == 0 and a.mm.read_u32(WORD) == 0


def test_a_circle_of_owners_is_a_deadlock(world: World) -> None:
    a, b = threads(world, 2)
    assert futex(world, a, f.FUTEX_LOCK_PI) == 0 and futex(world, b, f.FUTEX_LOCK_PI, at=WORD2) == 0
    assert futex(world, a, f.FUTEX_LOCK_PI, at=WORD2) == WAITS
    assert futex(world, b, f.FUTEX_LOCK_PI) == -e.EDEADLOCK.number


def test_condition_variables_wake_up_with_the_lock(world: World) -> None:
    a, b, c = threads(world, 3)
    for each in (a, b):
        assert futex(world, each, f.FUTEX_WAIT_REQUEUE_PI, 0, 0, WORD2) == WAITS
    assert futex(world, c, f.FUTEX_WAKE, 1) == -e.EINVAL.number
    assert futex(world, c, f.FUTEX_CMP_REQUEUE_PI, 2, 9, WORD2) == -e.EINVAL.number
    assert futex(world, c, f.FUTEX_CMP_REQUEUE_PI, 1, 9, WORD2) == 2
    world.settle()
    assert world.results[a] == 0 and a.mm.read_u32(WORD2) == a.tid | f.FUTEX_WAITERS
    assert futex(world, a, f.FUTEX_UNLOCK_PI, at=WORD2) == 0
    world.settle()
    assert world.results[b] == 0 and not LOCKS and not QUEUES


# ---- priority inheritance


def realtime(world: World, task: Task, priority: int) -> None:
    world.kernel.sched.set_policy(task, SCHED_FIFO, priority)
    inherit.reprioritised(task)


def test_a_chain_of_owners_is_lent_the_priority_of_who_waits(world: World) -> None:
    a, b, c, d = threads(world, 4)
    assert futex(world, a, f.FUTEX_LOCK_PI) == 0 and futex(world, b, f.FUTEX_LOCK_PI, at=WORD2) == 0
    assert futex(world, b, f.FUTEX_LOCK_PI) == WAITS
    assert a.entity.priority == 0
    realtime(world, c, 30)
    assert futex(world, c, f.FUTEX_LOCK_PI, at=WORD2) == WAITS
    assert (a.entity.priority, a.entity.own_priority, b.entity.priority) == (30, 0, 30)
    realtime(world, c, 40)
    assert (a.entity.priority, b.entity.priority) == (40, 40)
    realtime(world, d, 50)
    timeout = set_time(d, world.clock.realtime_ns() + SECOND)
    assert futex(world, d, f.FUTEX_LOCK_PI, timeout=timeout, at=WORD2) == WAITS
    assert (a.entity.priority, b.entity.priority) == (50, 50)
    world.pass_time(SECOND)
    assert world.results[d] == -e.ETIMEDOUT.number and (a.entity.priority, b.entity.priority) == (40, 40)
    assert a.entity.fork(0).priority == 0, "a loan is not inherited"
    realtime(world, a, 60)
    realtime(world, a, 20)
    assert a.entity.priority == 40, "what is lent outlasts a change of one's own"
    assert futex(world, a, f.FUTEX_UNLOCK_PI) == 0
    assert (a.entity.priority, b.entity.priority) == (20, 40)
    world.settle()
    assert futex(world, b, f.FUTEX_UNLOCK_PI, at=WORD2) == 0
    assert b.entity.priority == 0 and b.entity.lent == MAX_PRIO
    world.settle()
    assert world.results[c] == 0 and futex(world, b, f.FUTEX_UNLOCK_PI) == 0 and not OWNED


def test_the_most_urgent_waiter_is_next(world: World) -> None:
    a, *others = threads(world, 6)
    assert futex(world, a, f.FUTEX_LOCK_PI) == 0
    for each, priority in zip(others, (0, 10, 20, 20, 0), strict=True):
        if priority:
            realtime(world, each, priority)
        assert futex(world, each, f.FUTEX_LOCK_PI) == WAITS
    owner, order = a, []
    while True:
        assert futex(world, owner, f.FUTEX_UNLOCK_PI) == 0
        world.settle()
        found = next((each for each in others if each in world.results and each not in order), None)
        if found is None:
            break
        order.append(found)
        owner = found
    assert [others.index(each) for each in order] == [2, 3, 1, 0, 4]


def test_a_dying_owner_of_two_locks_gives_back_what_it_was_lent(world: World) -> None:
    a, b, c = threads(world, 3)
    for each, word, priority in ((b, WORD, 5), (c, WORD2, 7)):
        assert futex(world, a, f.FUTEX_LOCK_PI, at=word) == 0
        realtime(world, each, priority)
        assert futex(world, each, f.FUTEX_LOCK_PI, at=word) == WAITS
    assert a.entity.priority == 7
    exit_robust_list(a)
    world.settle()
    assert world.results[b] == world.results[c] == 0 and a.entity.priority == 0
    assert b.mm.read_u32(WORD) == b.tid | f.FUTEX_WAITERS | f.FUTEX_OWNER_DIED and not LOCKS and not OWNED


def test_too_long_a_chain_of_owners_counts_as_a_deadlock(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inherit, "CHAIN_LIMIT", 3)
    chain = threads(world, 6)
    words = [BASE + 4 * at for at in range(6)]
    for at, each in enumerate(chain):
        assert futex(world, each, f.FUTEX_LOCK_PI, at=words[at]) == 0
    for at in (1, 2, 3):
        assert futex(world, chain[at], f.FUTEX_LOCK_PI, at=words[at - 1]) == WAITS
    assert futex(world, chain[4], f.FUTEX_LOCK_PI, at=words[3]) == -e.EDEADLOCK.number


def test_a_deadlock_found_while_requeueing_leaves_the_waiter_where_it_was(world: World) -> None:
    a, b = threads(world, 2)
    third = BASE + 256
    assert futex(world, a, f.FUTEX_LOCK_PI, at=WORD2) == 0 and futex(world, b, f.FUTEX_LOCK_PI, at=third) == 0
    assert futex(world, b, f.FUTEX_WAIT_REQUEUE_PI, 0, 0, WORD2) == WAITS
    c = world.thread(a.group)
    assert futex(world, a, f.FUTEX_LOCK_PI, at=third) == WAITS
    assert futex(world, c, f.FUTEX_CMP_REQUEUE_PI, 1, 0, WORD2) == -e.EDEADLOCK.number
    assert [each.task for queue in QUEUES.values() for each in queue] == [b]


def test_plain_waiters_wake_by_priority(world: World) -> None:
    a, b, c, d = threads(world, 4)
    for each, priority in ((b, 10), (c, 20)):
        realtime(world, each, priority)
    for each in (a, b, c):
        assert futex(world, each, f.FUTEX_WAIT) == WAITS
    for expected in (c, b, a):
        assert futex(world, d, f.FUTEX_WAKE, 1) == 1
        world.settle()
        assert world.results.pop(d) == 1 and world.results.pop(expected) == 0 and not world.results


# ---- robust lists


def robust(world: World, task: Task, entries: list[int], pending: int = 0, offset: int = 8) -> None:
    """A list of entries, each with its word `offset` behind it; the head is at BASE + 1024."""
    head = BASE + 1024
    chain = [head, *entries, head]
    for this, following in pairwise(chain):
        task.mm.write_u64(this, following)
    task.mm.write(head + 8, struct.pack("<qQ", offset, pending))
    task.robust_list = (head, 24)


def test_a_dying_owner_marks_and_wakes(world: World) -> None:
    a, b = threads(world, 2)
    entry = BASE + 2048
    a.mm.write_u32(entry + 8, a.tid | f.FUTEX_WAITERS)
    robust(world, a, [entry])
    assert world.call(b, "futex", entry + 8, f.FUTEX_WAIT, a.tid | f.FUTEX_WAITERS, 0) == WAITS
    exit_robust_list(a)
    world.settle()
    assert world.results[b] == 0
    assert a.mm.read_u32(entry + 8) == f.FUTEX_WAITERS | f.FUTEX_OWNER_DIED


def test_a_dying_owner_of_a_lock_hands_it_over(world: World) -> None:
    a, b = threads(world, 2)
    assert futex(world, a, f.FUTEX_LOCK_PI) == 0 and futex(world, b, f.FUTEX_LOCK_PI) == WAITS
    exit_robust_list(a)
    world.settle()
    assert world.results[b] == 0
    assert b.mm.read_u32(WORD) == b.tid | f.FUTEX_WAITERS | f.FUTEX_OWNER_DIED


def test_the_pending_entry_counts_too(world: World) -> None:
    (a,) = threads(world, 1)
    entry = BASE + 2048
    a.mm.write_u32(entry + 8, a.tid)
    robust(world, a, [], pending=entry)
    exit_robust_list(a)
    assert a.mm.read_u32(entry + 8) == f.FUTEX_OWNER_DIED


def test_hostile_lists_end(world: World) -> None:
    a, b = threads(world, 2)
    entry = BASE + 2048
    a.mm.write_u64(entry, entry)  # points to itself
    a.mm.write(BASE + 1024, struct.pack("<QqQ", entry, 8, 0))
    a.robust_list = (BASE + 1024, 24)
    before = a.mm.loads  # type: ignore[attr-defined]
    exit_robust_list(a)
    assert a.mm.loads - before < 3 * f.ROBUST_LIST_LIMIT  # type: ignore[attr-defined]
    for head in (8, UNLIMITED - 7, BASE + 1024):
        a.mm.write(BASE + 1024, struct.pack("<QqQ", UNLIMITED - 1, -(1 << 63), UNLIMITED))
        a.robust_list = (head, 24)
        exit_robust_list(a)
    a.mm.write_u32(entry + 8, b.tid)
    robust(world, a, [entry])
    exit_robust_list(a)
    assert a.mm.read_u32(entry + 8) == b.tid, "a word that the task does not own is left alone"
