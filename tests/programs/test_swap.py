"""Programs that need more memory than there is: `--swap`, and what they and others see of it."""

from __future__ import annotations

from pathlib import Path

import pytest

import support

NEEDY = r"""
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
/* usage: needy MEGABYTES WAY: private memory, in a child besides, by two threads; or shared memory. */
static uint64_t *words;
static size_t count;
static uint64_t expected(size_t i) { return i * 2654435761u + 7; }
static void fill(size_t from, size_t to) { for (size_t i = from; i < to; i += 512) words[i] = expected(i); }
static int wrong(uint64_t more)
{
    int bad = 0;
    for (size_t i = 0; i < count; i += 512)
        bad += words[i] != expected(i) + more;
    return bad;
}
static void *half(void *arg) { fill(count / 2, count); return arg; }
int main(int argc, char **argv)
{
    (void)argc;
    int shared = argv[2][0] == 's', threads = argv[2][0] == 't', forks = argv[2][0] == 'f';
    count = (size_t)atoi(argv[1]) << 17;
    words = mmap(NULL, count * 8, PROT_READ | PROT_WRITE, (shared ? MAP_SHARED : MAP_PRIVATE) | MAP_ANONYMOUS, -1, 0);
    if (words == MAP_FAILED)
        return 3;
    pthread_t thread;
    if (threads)
        pthread_create(&thread, NULL, half, NULL);
    fill(0, threads ? count / 2 : count);
    if (threads)
        pthread_join(thread, NULL);
    int bad = wrong(0);
    if (forks) {
        if (fork() == 0) {
            for (size_t i = 0; i < count; i += 512)
                words[i]++;
            _exit(wrong(1) != 0);
        }
        int status = 1;
        wait(&status);
        bad += status != 0;
    }
    bad += wrong(0);
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    printf("%s, %s\n", bad ? "wrong" : "right", usage.ru_majflt ? "from disk" : "from memory");
    return bad != 0;
}
"""
DUMPED = r"""
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif
int main(void)
{
    setrlimit(RLIMIT_CORE, &(struct rlimit){RLIM_INFINITY, RLIM_INFINITY});
    for (int flags = MAP_SHARED; flags <= MAP_PRIVATE; flags++) {
        char *at = mmap(NULL, 16 * 4096, 3, flags | MAP_ANONYMOUS, -1, 0);
        for (int i = 0; i < 16; i++)
            strcpy(at + i * 4096, "it was put "), strcat(at + i * 4096, "out");
        madvise(at, 16 * 4096, MADV_PAGEOUT);
    }
    abort();
}
"""


ADVISED = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif
#define MB (1ul << 20)
/* Advice for 64 MB, of which 20 to 40 are not there: how the calls end, and how much is out after each. */
static char *at;
static void advise(const char *what, char *from, unsigned long length, int advice)
{
    char line[256];
    long kb, all = 0;
    int result = madvise(from, length, advice) ? errno : 0;
    FILE *file = fopen("/proc/self/smaps", "r");
    while (fgets(line, sizeof line, file))
        if (sscanf(line, "Swap: %ld", &kb) == 1)
            all += kb;
    fclose(file);
    printf("%s: %s, %ld MB out\n", what, result == ENOMEM ? "ENOMEM" : result == EINVAL ? "EINVAL" : result ? "?" : "0", all >> 10);
}
int main(void)
{
    at = mmap(NULL, 64 * MB, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(at, 7, 64 * MB);
    munmap(at + 20 * MB, 20 * MB);
    advise("not a page", at + 1, 64 * MB, MADV_PAGEOUT);
    advise("around the world", at, -4096ul, MADV_PAGEOUT);
    advise("out", at, 64 * MB, MADV_PAGEOUT);
    advise("back", at, 64 * MB, MADV_WILLNEED);
    mlock(at + 60 * MB, MB);
    advise("up to what is locked", at + 40 * MB, 24 * MB, MADV_PAGEOUT);
    advise("all of it is there", at, 20 * MB, MADV_PAGEOUT);
    advise("nothing is there", at + 20 * MB, 20 * MB, MADV_PAGEOUT);
    for (unsigned long i = 0; i < 64 * MB; i += i == 20 * MB - 4096 ? 20 * MB + 4096 : 4096)
        if (at[i] != 7)
            puts("wrong");
    return 0;
}
"""


def built(text: str, tmp_path: Path, compiler: str = "gcc") -> Path:
    source = tmp_path / "program.c"
    source.write_text(text)
    return support.compile_c(source, ["-static", "-pthread", "-Wall"], compiler=compiler)


def run(program: Path, arguments: list[str], options: list[str], timeout_s: float = 120) -> support.Result:
    bind = ["--bind", f"{program.parent}:/program:ro"]
    return support.trapline([f"/program/{program.name}", *arguments], [*bind, *options], cwd="/usr", timeout_s=timeout_s)


@pytest.mark.skipif(support.have("gcc") is not None, reason="needs gcc")
@pytest.mark.parametrize("way", ["private", "shared", "threads"])
def test_a_program_that_needs_more_than_memory(way: str, tmp_path: Path, no_process_left: None) -> None:
    got = run(built(NEEDY, tmp_path), ["96", way], ["--memory", "32M", "--swap", f"160M:{tmp_path}"])
    assert (got.status, got.text) == (0, "right, from disk\n"), got.tail()
    assert not list(tmp_path.glob("tmp*")), "the file has no name"


@pytest.mark.skipif(support.have("gcc") is not None, reason="needs gcc")
def test_a_child_has_what_is_out(tmp_path: Path, no_process_left: None) -> None:
    got = run(built(NEEDY, tmp_path), ["48", "fork"], ["--memory", "32M", "--swap", "160M"])
    assert (got.status, got.text) == (0, "right, from disk\n"), got.tail()


@pytest.mark.skipif(support.no_riscv() is not None, reason=str(support.no_riscv()))
def test_on_the_riscv_machine(tmp_path: Path, no_process_left: None) -> None:
    program = built(NEEDY, tmp_path, support.RISCV_GCC)
    got = run(program, ["48", "fork"], ["--machine", "riscv", "--memory", "32M", "--swap", "160M"])
    assert (got.status, got.text) == (0, "right, from disk\n"), got.tail()


@pytest.mark.skipif(support.have("gcc") is not None, reason="needs gcc")
def test_long_advice_is_taken_in_pieces_as_if_it_were_one(tmp_path: Path, no_process_left: None) -> None:
    got = run(built(ADVISED, tmp_path), [], ["--memory", "256M", "--swap", "160M"])
    assert got.text.splitlines() == [
        "not a page: EINVAL, 0 MB out", "around the world: EINVAL, 0 MB out", "out: ENOMEM, 44 MB out", "back: ENOMEM, 0 MB out",
        "up to what is locked: EINVAL, 20 MB out", "all of it is there: 0, 40 MB out", "nothing is there: ENOMEM, 40 MB out",
    ], got.tail()  # fmt: skip


@pytest.mark.skipif(support.have("gcc") is not None, reason="needs gcc")
def test_swap_that_is_full_is_out_of_memory(tmp_path: Path, no_process_left: None) -> None:
    got = run(built(NEEDY, tmp_path), ["44", "private"], ["--memory", "32M", "--swap", "16M", "--log"])
    assert got.status == 0, "it needs no more than there is: " + got.tail()
    program = built(NEEDY, tmp_path)
    needy = f"/program/{program.name} 30 p"
    needy = f"{needy} & {needy} & wait %1; a=$?; wait %2; echo $((a + $?))"
    options = ["--bind", f"{program.parent}:/program:ro", "--memory", "32M", "--swap", "16M", "--log"]
    got = support.trapline(["sh", "-c", needy], options, cwd="/usr")
    assert b"Out of memory: Killed process" in got.stderr, got.tail()
    assert got.text.splitlines()[-1] == "137", "one is killed, the other goes on: " + got.tail()


def test_what_there_is(no_process_left: None) -> None:
    words = ["sh", "-c", "cat /proc/swaps; ls -l /dev/swap0 | cut -c1; grep SwapTotal /proc/meminfo; grep psw /proc/vmstat"]
    got = support.trapline(words, ["--swap", "64M"], cwd="/usr")
    head, swap, *rest = got.text.splitlines()
    assert head.split() == ["Filename", "Type", "Size", "Used", "Priority"]
    assert swap.split() == ["/dev/swap0", "partition", "65532", "0", "-2"]
    assert rest == ["b", "SwapTotal:         65532 kB", "pswpin 0", "pswpout 0"], got.tail()
    got = support.trapline(["cat", "/proc/swaps"], cwd="/usr")
    assert len(got.text.splitlines()) == 1


@pytest.mark.skipif(support.have("swapoff", "swapon") is not None, reason="needs swapon(8)")
def test_off_and_on_again(no_process_left: None) -> None:
    script = "swapoff /dev/swap0 && swapon --noheadings --show; swapoff /dev/swap0; grep -c / /proc/swaps"
    got = support.trapline(["sh", "-c", f"PATH=$PATH:/usr/sbin; {script}"], ["--swap", "64M", "--user", "0"], cwd="/usr")
    assert got.text == "0\n" and b"swapoff failed: Invalid argument" in got.stderr, got.tail()
    assert support.trapline(["/usr/sbin/swapoff", "/dev/swap0"], ["--swap", "64M", "--user", "1000"], cwd="/usr").status != 0


@pytest.mark.skipif(support.have("gcc") is not None, reason="needs gcc")
def test_what_is_out_is_in_a_core_dump(tmp_path: Path, no_process_left: None) -> None:
    program = built(DUMPED, tmp_path)
    script = f"ulimit -c unlimited; cd /tmp; /program/{program.name}; grep -c . /dev/null; grep -ao 'it was put out' core* | wc -l"
    options = ["--bind", f"{program.parent}:/program:ro", "--swap", "16M"]
    got = support.trapline(["sh", "-c", script], options, cwd="/usr")
    assert got.text.splitlines()[-1] == "32", got.tail()


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("1M", "too small"), ("lots", "not a size"), ("64M:/nonexistent", "no such directory"), ("", "not a size"),
        ("64M:/proc/self", "there is no room for swap"),
    ],
)  # fmt: skip
def test_what_cannot_be_swapped_to(option: str, says: str) -> None:
    got = support.trapline(["true"], ["--swap", option], cwd="/usr")
    assert got.status == 125 and says in got.stderr.decode(), got.tail()
