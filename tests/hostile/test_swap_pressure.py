"""Swap while memory is short, allocations fail, and the disk does: nothing is lost, nothing is wrong, and the kernel goes on."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import suppress

import pytest
from test_memory_pressure import failing

import support
from trapline import Kernel
from trapline.abi.errno import EIO, Errno
from trapline.kernel.mm.reclaim import evict

HUNGRY = r"""
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
/* Writes more than there is, forks, and checks: 0 if all is right, 1 if anything is wrong. */
static int check(unsigned *at, size_t count, unsigned more)
{
    for (size_t i = 0; i < count; i += 1024)
        if (at[i] != (unsigned)(i * 2654435761u) + more)
            return 1;
    return 0;
}
int main(int argc, char **argv)
{
    size_t count = (size_t)atoi(argv[1]) << 18;
    unsigned *at = mmap(NULL, count * 4, 3, (argc > 2 ? MAP_SHARED : MAP_PRIVATE) | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED)
        return 2;
    for (size_t i = 0; i < count; i += 1024)
        at[i] = (unsigned)(i * 2654435761u);
    int status = 0;
    if (argc == 2) {
        pid_t pid = fork();
        if (pid == 0) {
            for (size_t i = 0; i < count; i += 1024)
                at[i]++;
            _exit(check(at, count, 1));
        }
        if (pid > 0)
            wait(&status);
    }
    return check(at, count, 0) || (WIFEXITED(status) && WEXITSTATUS(status) == 1);
}
"""
#: 1 says that memory was wrong
WORK = "/p/hungry 20 & /p/hungry 16 shared & wait %1; a=$?; wait %2; b=$?; [ $a != 1 ] && [ $b != 1 ]"

pytestmark = pytest.mark.skipif(support.have("gcc") is not None, reason="needs gcc")


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    where = tmp_path_factory.mktemp("swap")
    source = where / "hungry.c"
    source.write_text(HUNGRY)
    support.compile_c(source, ["-static"]).rename(where / "hungry")
    binds = [f"{where}:/p:ro"]
    with Kernel(memory=24 << 20, swap=64 << 20, swap_dir=str(where), cpus=2, stdio=(-1, -1, -1), seed=1, binds=binds) as kernel:
        assert {each.name for each in where.iterdir()} == {"hungry", "hungry.c"}, "the file that is swapped to has no name"
        assert kernel.run(["sh", "-c", WORK], timeout=60) == 0
        yield kernel


def settled(kernel: Kernel) -> tuple[int, int]:
    """(frames, slots) in use when no program runs and nothing is cached that can be read again."""
    kernel.kill_all()
    assert kernel.run(["true"], timeout=20) == 0
    evict(kernel.system.ram, 1 << 30)
    swap = kernel.system.swap
    assert swap is not None
    return kernel.system.ram.frames.used_pages, swap.total_pages - swap.free_pages


@pytest.mark.parametrize("every", [7, 50, 200])
def test_allocations_that_fail_while_pages_go_and_come(kernel: Kernel, every: int) -> None:
    before = settled(kernel)
    assert before[1] == 0
    with failing(kernel.system.ram.frames, lambda n: n > 100 and n % every == 0) as count, suppress(Errno):
        assert kernel.run(["sh", "-c", WORK], timeout=60) != 1
    assert not kernel.timed_out and count[0] > 100
    assert settled(kernel) == before


@pytest.mark.parametrize(("reads", "writes"), [(0.05, 0.0), (0.0, 0.2), (0.02, 0.02)])
def test_a_disk_that_fails(kernel: Kernel, reads: float, writes: float) -> None:
    """Who needs what cannot be read gets SIGBUS; what cannot be written stays, and the area takes no more."""
    swap = kernel.system.swap
    assert swap is not None
    (area,) = swap.areas.values()
    good, rng = area.backing, random.Random(5)

    class Bad:
        pages = good.pages

        def read(self, page: int, views: Sequence[memoryview]) -> None:
            if rng.random() < reads:
                raise EIO
            good.read(page, views)

        def write(self, page: int, views: Sequence[memoryview]) -> None:
            if rng.random() < writes:
                raise EIO
            good.write(page, views)

        def close(self) -> None:
            good.close()

        def end(self) -> None:
            good.end()

    before = settled(kernel)
    area.backing = Bad()
    try:
        with suppress(Errno):
            assert kernel.run(["sh", "-c", WORK], timeout=60) != 1
        assert not kernel.timed_out
        assert area.accepts or writes
    finally:
        area.backing, area.accepts = good, True
    assert settled(kernel) == before
    assert kernel.run(["sh", "-c", WORK], timeout=60) == 0
