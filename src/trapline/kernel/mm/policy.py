"""What an address space may use, and how much one fault repairs: two small objects whose fields anybody may change."""

from __future__ import annotations

from trapline.abi.mman import RLIM_INFINITY


class MmLimits:
    """The resource limits that bound an address space, in bytes: setrlimit(2) RLIMIT_AS, _DATA, _STACK, _MEMLOCK.

    `lock_freely`: the caller of the system call in progress has CAP_IPC_LOCK, so `memlock` does not bound it.
    """

    __slots__ = ("as_bytes", "data", "lock_freely", "memlock", "stack")

    def __init__(
        self,
        as_bytes: int = RLIM_INFINITY,
        data: int = RLIM_INFINITY,
        stack: int = 8 << 20,
        memlock: int = 8 << 20,
    ) -> None:
        self.as_bytes = as_bytes
        self.data = data
        self.stack = stack
        self.memlock = memlock
        self.lock_freely = False

    def copy(self) -> MmLimits:
        return MmLimits(self.as_bytes, self.data, self.stack, self.memlock)


class Policy:
    """How much one fault repairs. Page counts are powers of two, at most 512; 1 means exactly the page touched.

    anon_around_pages   fresh zero pages mapped around a fault in anonymous memory
    anon_most_pages     the same in a larger area: its half, but no more than this
    huge                map a whole 2 MiB leaf where an anonymous area holds the aligned block
    file_around_pages   resident pages of a file mapped around a fault
    cow_around_pages    pages of a private mapping copied, or made writable again, around a write
    stack_grow_pages    by how many pages at least a stack grows
    streak_pages        whoever faults page after page has twice as many repaired each time, up to this
    whole_pages         a private mapping of a file that is executable, or no larger, is read and mapped so many at a time
    fork_copy_pages     a process with no more private pages than this is copied by fork(2), not shared until written
    """

    __slots__ = (
        "anon_around_pages", "anon_most_pages", "cow_around_pages", "file_around_pages", "fork_copy_pages", "huge",
        "stack_grow_pages", "streak_pages", "whole_pages",
    )  # fmt: skip

    def __init__(
        self,
        anon_around_pages: int = 16,
        file_around_pages: int = 64,
        cow_around_pages: int = 8,
        stack_grow_pages: int = 16,
        *,
        anon_most_pages: int = 16,
        streak_pages: int = 256,
        whole_pages: int = 256,
        fork_copy_pages: int = 256,
        huge: bool = True,
    ) -> None:
        self.anon_around_pages = anon_around_pages
        self.file_around_pages = file_around_pages
        self.anon_most_pages = anon_most_pages
        self.cow_around_pages = cow_around_pages
        self.stack_grow_pages = stack_grow_pages
        self.streak_pages = streak_pages
        self.whole_pages = whole_pages
        self.fork_copy_pages = fork_copy_pages
        self.huge = huge

    def with_huge(self, huge: bool) -> Policy:
        """One like it that maps large leaves, or does not: PR_SET_THP_DISABLE."""
        copy = Policy()
        for field in self.__slots__:
            setattr(copy, field, getattr(self, field))
        copy.huge = huge
        return copy

    def one_page_per_fault(self) -> None:
        """What to set when faults themselves are studied."""
        self.anon_around_pages = self.file_around_pages = self.cow_around_pages = self.stack_grow_pages = 1
        self.streak_pages = self.whole_pages = 1
        self.anon_most_pages = 1
        self.fork_copy_pages = 0
        self.huge = False


DEFAULT = Policy()  #: of every address space that is not given another
TOGETHER = Policy(anon_most_pages=128)  #: the same on machines that prefer pages which lie together
