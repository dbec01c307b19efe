"""The record locks on one file, so kept that a lock is found and changed in a few steps, however many there are.

Invariants:
- `_by_owner[owner]` is (starts, locks), sorted; the locks of one owner do not overlap, and neighbours of one type are joined;
- `_by_length[kind, bits]` is (starts, locks) of everybody's locks of a type whose last byte is less than 2**bits beyond the
  first, sorted by start;
- both hold the same `count` locks.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right

from trapline.abi.fcntl import F_UNLCK, F_WRLCK

END = (1 << 63) - 1  #: the end of every file, as the last byte of a range


class RecordLock:
    """One locked range. `pid` is what F_GETLK reports: the process, or -1 for open file description locks."""

    __slots__ = ("end", "kind", "owner", "pid", "start")

    def __init__(self, owner: object, kind: int, start: int, end: int, pid: int) -> None:
        self.owner = owner
        self.kind = kind
        self.start = start
        self.end = end
        self.pid = pid

    def with_range(self, start: int, end: int) -> RecordLock:
        return RecordLock(self.owner, self.kind, start, end, self.pid)


Sorted = tuple[list[int], list[RecordLock]]


class RecordLocks:
    __slots__ = ("_by_length", "_by_owner", "count")

    def __init__(self) -> None:
        self._by_owner: dict[object, Sorted] = {}
        self._by_length: dict[tuple[int, int], Sorted] = {}
        self.count = 0

    def all(self) -> list[RecordLock]:
        """By their first bytes."""
        return sorted((each for _, locks in self._by_owner.values() for each in locks), key=_start)

    def conflict(self, lock: RecordLock) -> RecordLock | None:
        """The first lock of somebody else that `lock` cannot live with."""
        found: RecordLock | None = None
        for (kind, bits), (starts, locks) in self._by_length.items():
            if F_WRLCK not in (kind, lock.kind):
                continue
            for index in range(bisect_right(starts, lock.start - (1 << bits)), bisect_right(starts, lock.end)):
                each = locks[index]
                if each.end >= lock.start and each.owner is not lock.owner:
                    found = each if found is None or each.start < found.start else found
                    break
        return found

    def apply(self, lock: RecordLock, limit: int) -> bool:
        """Set (or, for F_UNLCK, clear) a range without a conflict; False, and nothing changes, for more than `limit` locks."""
        starts, mine = self._by_owner.get(lock.owner) or ([], [])
        first = max(0, bisect_left(starts, lock.start) - 1)
        first += first < len(mine) and mine[first].end < lock.start - 1
        last = bisect_right(starts, lock.end + 1)
        touched, parts = mine[first:last], _combined(mine[first:last], lock)
        count = self.count - len(touched) + len(parts)
        if count > max(limit, self.count):
            return False
        starts[first:last], mine[first:last] = [each.start for each in parts], parts
        for each in touched:
            self._remove(each)
        for each in parts:
            bucket_starts, bucket = self._by_length.setdefault(_bucket(each), ([], []))
            at = bisect_right(bucket_starts, each.start)
            bucket_starts.insert(at, each.start)
            bucket.insert(at, each)
        self._keep(lock.owner, (starts, mine))
        self.count = count
        return True

    def _keep(self, owner: object, own: Sorted) -> None:
        if own[1]:
            self._by_owner[owner] = own
        else:
            self._by_owner.pop(owner, None)

    def _remove(self, lock: RecordLock) -> None:
        starts, locks = self._by_length[_bucket(lock)]
        at = bisect_left(starts, lock.start)
        while locks[at] is not lock:
            at += 1
        del starts[at], locks[at]
        if not locks:
            del self._by_length[_bucket(lock)]

    def drop(self, owner: object) -> bool:
        """All of an owner's locks go; whether there were any."""
        _, locks = self._by_owner.pop(owner, ([], []))
        for each in locks:
            self._remove(each)
        self.count -= len(locks)
        return bool(locks)


def _combined(touched: list[RecordLock], lock: RecordLock) -> list[RecordLock]:
    """What becomes of an owner's locks that overlap or touch the range of `lock`, in order."""
    start, end = lock.start, lock.end
    before, after = [], []
    for each in touched:
        if each.kind == lock.kind:
            start, end = min(start, each.start), max(end, each.end)
            continue
        if each.start < lock.start:
            before.append(each.with_range(each.start, min(each.end, lock.start - 1)))
        if each.end > lock.end:
            after.append(each.with_range(max(each.start, lock.end + 1), each.end))
    return before + ([] if lock.kind == F_UNLCK else [lock.with_range(start, end)]) + after


def _bucket(lock: RecordLock) -> tuple[int, int]:
    return lock.kind, (lock.end - lock.start).bit_length()


def _start(lock: RecordLock) -> int:
    return lock.start
