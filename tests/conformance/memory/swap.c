/* cc: -static; on disk
 * swapon(2), swapoff(2): who may, to what; pages that go out by MADV_PAGEOUT, and come back: anonymous, shared, of a memfd. */
#include "../check.h"
#include "fields.h"
#include <sys/socket.h>
#include <sys/swap.h>
#include <sys/sysinfo.h>
#include <sys/un.h>

#define RW (PROT_READ | PROT_WRITE)
#define PAGES 64
#define AREA_PAGES 256
#ifndef MADV_COLD
#define MADV_COLD 20
#define MADV_PAGEOUT 21
#endif

static char area_path[PATH_MAX + 16];

static void off(void)
{
    swapoff(area_path);
}

/* A file as mkswap(8) leaves it. */
static void make_area(const char *path, int pages, uint32_t version, uint32_t last, uint32_t bad, const char *signature)
{
    static char page[PAGE];
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    for (int i = 0; i < pages; i++) {
        memset(page, 0, PAGE);
        if (i == 0) {
            uint32_t info[3] = {version, last, bad};
            memcpy(page + 1024, info, sizeof info);
            memcpy(page + PAGE - 10, signature, 10);
        }
        write(fd, page, PAGE);
    }
    fsync(fd);
    close(fd);
}

static int try_area(uint32_t version, uint32_t last, uint32_t bad, const char *signature)
{
    make_area("broken", 16, version, last, bad, signature);
    return swapon("broken", 0);
}

static void refusals(void)
{
    CHECK_ERRNO("unknown flags come first", swapon("nothing", 1 << 20), EINVAL);
    if (!IS_ROOT) {
        CHECK_ERRNO("swapon is root's", swapon("nothing", 0), EPERM);
        CHECK_ERRNO("swapoff is root's", swapoff("nothing"), EPERM);
        return;
    }
    CHECK_ERRNO("swapon of nothing", swapon("nothing", 0), ENOENT);
    CHECK_ERRNO("swapoff of nothing", swapoff("nothing"), ENOENT);
    CHECK_ERRNO("swapon of a bad address", swapon((char *)8, 0), EFAULT);
    CHECK_ERRNO("swapoff of a bad address", swapoff((char *)8), EFAULT);
    CHECK_ERRNO("swapon of a directory", swapon(".", 0), EISDIR);
    CHECK_ERRNO("swapon of a device for characters", swapon("/dev/null", 0), EINVAL);
    mkfifo("fifo", 0600);
    CHECK_ERRNO("swapon of a fifo", swapon("fifo", 0), EINVAL);
    struct sockaddr_un name = {AF_UNIX, "socket"};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    bind(fd, (struct sockaddr *)&name, sizeof name);
    CHECK_ERRNO("swapon of a socket", swapon("socket", 0), ENXIO);
    close(fd);
    close(new_file("empty", ""));
    CHECK_ERRNO("swapon of an empty file", swapon("empty", 0), EINVAL);
    CHECK_ERRNO("swapon of a file in it", swapon("empty/x", 0), ENOTDIR);
    CHECK_ERRNO("swapoff of what is not on", swapoff("empty"), EINVAL);
    CHECK_ERRNO("no signature", try_area(1, 15, 0, "swapspace2"), EINVAL);
    CHECK_ERRNO("the old signature", try_area(1, 15, 0, "SWAP-SPACE"), EINVAL);
    CHECK_ERRNO("version 2", try_area(2, 15, 0, "SWAPSPACE2"), EINVAL);
    CHECK_ERRNO("version 0", try_area(0, 15, 0, "SWAPSPACE2"), EINVAL);
    CHECK_ERRNO("no pages", try_area(1, 0, 0, "SWAPSPACE2"), EINVAL);
    CHECK_ERRNO("more pages than there are", try_area(1, 16, 0, "SWAPSPACE2"), EINVAL);
    CHECK_ERRNO("bad pages of a file", try_area(1, 15, 1, "SWAPSPACE2"), EINVAL);
    CHECK_ERRNO("too many of them", try_area(1, 15, 1u << 31, "SWAPSPACE2"), EINVAL);
    make_area("holes", 8, 1, 15, 0, "SWAPSPACE2");
    truncate("holes", 16 * PAGE);
    CHECK_ERRNO("a file with holes", swapon("holes", 0), EINVAL);
    make_area("/dev/shm/swap-of-a-test", 16, 1, 15, 0, "SWAPSPACE2");
    CHECK_ERRNO("a file in memory", swapon("/dev/shm/swap-of-a-test", 0), EINVAL);
    unlink("/dev/shm/swap-of-a-test");
}

/* Our line of /proc/swaps: "TYPE SIZE PRIORITY", or nothing. */
static const char *shown(void)
{
    static char line[PATH_MAX], found[64];
    FILE *file = fopen("/proc/swaps", "r");
    found[0] = 0;
    while (fgets(line, sizeof line, file)) {
        char path[PATH_MAX], kind[16];
        long size, used, priority;
        if (sscanf(line, "%s %15s %ld %ld %ld", path, kind, &size, &used, &priority) == 5 && strcmp(path, area_path) == 0)
            snprintf(found, sizeof found, "%s %ld %ld", kind, size, priority);
    }
    fclose(file);
    return found;
}

static void fill(unsigned char *at, int seed)
{
    for (int i = 0; i < PAGES; i++)
        memset(at + i * PAGE, (i * 7 + seed) & 255, PAGE);
}

static bool holds(unsigned char *at, int seed)
{
    for (int i = 0; i < PAGES; i++)
        if (at[i * PAGE] != ((i * 7 + seed) & 255) || at[i * PAGE + PAGE - 1] != ((i * 7 + seed) & 255))
            return false;
    return true;
}

/* Put a mapping's pages out, and wait until all have gone. */
static bool put_out(void *at)
{
    for (int turn = 0; turn < 200; turn++) {
        if (madvise(at, PAGES * PAGE, MADV_PAGEOUT) != 0)
            return false;
        if (smaps("Swap", at) == PAGES * 4)
            return true;
        usleep(2000);
    }
    return false;
}

static bool pagemap_says_swap(void *at)
{
    uint64_t word = 0;
    int fd = open("/proc/self/pagemap", O_RDONLY);
    pread(fd, &word, 8, (long)at / PAGE * 8);
    close(fd);
    return word >> 62 == 1;
}

static unsigned char *map(int flags, int fd)
{
    unsigned char *at = mmap(NULL, PAGES * PAGE, RW, flags, fd, 0);
    madvise(at, PAGES * PAGE, MADV_NOHUGEPAGE);
    return at;
}

static unsigned char *private_pages;

static void child_of_swapped(void)
{
    CHECK("a child has what is out", holds(private_pages, 9));
    fill(private_pages, 10);
    CHECK("and can change it", holds(private_pages, 10));
}

static void private_memory(void)
{
    unsigned char *at = private_pages = map(MAP_PRIVATE | MAP_ANONYMOUS, -1);
    fill(at, 3);
    CHECK("pages go out", put_out(at));
    CHECK("pagemap", pagemap_says_swap(at));
    CHECK("and come back", holds(at, 3));
    CHECK("all of them", smaps("Rss", at) == PAGES * 4);
    CHECK("again", put_out(at));
    fill(at, 4);
    CHECK("overwritten while they are out", holds(at, 4));
    fill(at, 9);
    put_out(at);
    CHECK("fork", exited(in_child(child_of_swapped), 0));
    CHECK("the parent's are its own", holds(at, 9));
    put_out(at);
    CHECK_EQ("MADV_WILLNEED", madvise(at, PAGES * PAGE, MADV_WILLNEED), 0);
    CHECK_EQ("MADV_COLD", madvise(at, PAGES * PAGE, MADV_COLD), 0);
    CHECK("nothing is lost", holds(at, 9));
    put_out(at);
    mprotect(at, PAGES * PAGE, PROT_READ);
    CHECK("mprotect of what is out", holds(at, 9));
    mprotect(at, PAGES * PAGE, RW);
    fill(at, 11);
    put_out(at);
    unsigned char *moved = mremap(at, PAGES * PAGE, PAGES * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, map(MAP_PRIVATE | MAP_ANONYMOUS, -1));
    CHECK("mremap of what is out", holds(moved, 11));
    put_out(moved);
    madvise(moved, PAGES * PAGE, MADV_DONTNEED);
    CHECK_EQ("MADV_DONTNEED of what is out", moved[PAGE * 5], 0);
    fill(moved, 12);
    mlock(moved, PAGES * PAGE);
    CHECK_ERRNO("locked pages stay", madvise(moved, PAGES * PAGE, MADV_PAGEOUT), EINVAL);
    CHECK_EQ("none of them is out", smaps("Swap", moved), 0);
    munlock(moved, PAGES * PAGE);
    put_out(moved);
    mlock(moved, PAGES * PAGE);
    CHECK_EQ("mlock brings back", smaps("Rss", moved), PAGES * 4);
    munmap(moved, PAGES * PAGE);
}

static void shared_memory(void)
{
    unsigned char *at = map(MAP_SHARED | MAP_ANONYMOUS, -1);
    fill(at, 21);
    CHECK("shared pages go out", put_out(at));
    CHECK("shared pages come back", holds(at, 21));
    munmap(at, PAGES * PAGE);
    int fd = memfd_create("swap", 0);
    ftruncate(fd, PAGES * PAGE);
    at = map(MAP_SHARED, fd);
    fill(at, 22);
    put_out(at);
    unsigned char byte = 0, page[2 * PAGE];
    pread(fd, &byte, 1, 10 * PAGE + 5);
    CHECK_EQ("read of what is out", byte, (10 * 7 + 22) & 255);
    put_out(at);
    memset(page, 200, sizeof page);
    pwrite(fd, page, sizeof page, 8 * PAGE + 100);
    CHECK("write to what is out", at[8 * PAGE + 99] == ((8 * 7 + 22) & 255) && at[8 * PAGE + 100] == 200 &&
              at[9 * PAGE] == 200 && at[10 * PAGE + 99] == 200 && at[10 * PAGE + 100] == ((10 * 7 + 22) & 255));
    put_out(at);
    CHECK_EQ("data, not a hole", lseek(fd, 20 * PAGE, SEEK_DATA), 20 * PAGE);
    ftruncate(fd, 30 * PAGE + 50);
    ftruncate(fd, PAGES * PAGE);
    CHECK("truncation of what is out", at[30 * PAGE + 49] == ((30 * 7 + 22) & 255) && !at[30 * PAGE + 50] && !at[40 * PAGE]);
    munmap(at, PAGES * PAGE);
    close(fd);
}

int main(void)
{
    enter_scratch();
    snprintf(area_path, sizeof area_path, "%s/area", check_scratch);
    make_area("area", AREA_PAGES, 1, AREA_PAGES - 1, 0, "SWAPSPACE2");
    if (IS_ROOT && swapon("area", SWAP_FLAG_PREFER | 30000) != 0) {
        say(errno == EPERM ? "skip everything: root may not swap here\n" : "FAIL swapon: %s\n", errno_name(errno));
        return errno != EPERM;
    }
    atexit(off);
    refusals();
    if (!IS_ROOT)
        return finish();
    say("ok swapon: %s\n", shown());
    CHECK_ERRNO("twice", swapon("area", 0), EBUSY);
    struct sysinfo info;
    sysinfo(&info);
    CHECK("sysinfo", info.totalswap * info.mem_unit >= (AREA_PAGES - 1) * PAGE);
    private_memory();
    shared_memory();
    unsigned char *kept = map(MAP_PRIVATE | MAP_ANONYMOUS, -1), *other = map(MAP_SHARED | MAP_ANONYMOUS, -1);
    fill(kept, 31);
    fill(other, 32);
    put_out(kept);
    put_out(other);
    CHECK_EQ("swapoff", swapoff("area"), 0);
    CHECK("everything is back", smaps("Swap", kept) == 0 && smaps("Swap", other) == 0);
    CHECK("as it was", holds(kept, 31) && holds(other, 32));
    CHECK("and not shown", !*shown());
    CHECK_ERRNO("swapoff twice", swapoff("area"), EINVAL);
    return finish();
}
