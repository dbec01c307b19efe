/* cc: -static; only x86_64
 * int $0x80 reaches the calls of i386: those whose arguments and structures are those of x86-64 too, in low memory. */
#include "../check.h"
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/utsname.h>

static char *low; /* a page that 32-bit pointers reach */

static long call(long number, long a, long b, long c, long d, long e)
{
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e) : "memory");
    return result;
}

static void identity(void)
{
    uint32_t *ids = (uint32_t *)low;
    CHECK_EQ("getuid32", call(199, 0, 0, 0, 0, 0), getuid());
    CHECK_EQ("getegid32", call(202, 0, 0, 0, 0, 0), getegid());
    CHECK_EQ("getresuid32", call(209, (long)ids, (long)(ids + 1), (long)(ids + 2), 0, 0), 0);
    CHECK("its ids", ids[0] == getuid() && ids[1] == geteuid() && ids[2] == getuid());
    CHECK_EQ("uname", call(122, (long)low, 0, 0, 0, 0), 0);
    struct utsname want;
    uname(&want);
    CHECK("its names", strcmp(((struct utsname *)low)->sysname, want.sysname) == 0);
    CHECK_EQ("prlimit64", call(340, 0, RLIMIT_NOFILE, 0, (long)low, 0), 0);
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    CHECK("its limits", memcmp(low, &limit, sizeof limit) == 0);
    *(uint64_t *)low = 1ul << (SIGUSR1 - 1);
    CHECK_EQ("rt_sigprocmask", call(175, SIG_BLOCK, (long)low, (long)low + 8, 8, 0), 0);
    CHECK_EQ("kill", call(37, getpid(), SIGUSR1, 0, 0, 0), 0);
    CHECK_EQ("rt_sigpending", call(176, (long)low, 8, 0, 0, 0), 0);
    CHECK_EQ("pending", *(uint64_t *)low, 1ul << (SIGUSR1 - 1));
}

static void time_of_day(void)
{
    struct timespec *time = (struct timespec *)low;
    CHECK_EQ("clock_gettime64", call(403, CLOCK_MONOTONIC, (long)time, 0, 0, 0), 0);
    int64_t there = time->tv_sec * 1000000000 + time->tv_nsec, here = now_ns(CLOCK_MONOTONIC);
    CHECK("the same clock", there <= here && here - there < 5000000000);
    *time = (struct timespec){0, 1000000};
    CHECK_EQ("clock_nanosleep_time64", call(407, CLOCK_MONOTONIC, 0, (long)time, 0, 0), 0);
    CHECK("it slept", now_ns(CLOCK_MONOTONIC) - here >= 1000000);
    *time = (struct timespec){0, 1000000};
    *(int *)(low + 64) = 7;
    CHECK_EQ("futex_time64", call(422, (long)low + 64, 0, 7, (long)time, 0), -ETIMEDOUT);
    *time = (struct timespec){0, 2000000000};
    CHECK_EQ("no such time", call(407, CLOCK_MONOTONIC, 0, (long)time, 0, 0), -EINVAL);
}

static void files(void)
{
    strcpy(low, "file");
    int fd = (int)call(5, (long)low, O_RDWR | O_CREAT, 0600, 0, 0);
    CHECK("open", fd >= 0);
    strcpy(low, "0123456789");
    CHECK_EQ("write", call(4, fd, (long)low, 10, 0, 0), 10);
    CHECK_EQ("lseek back: 32-bit offsets are signed", call(19, fd, -3, SEEK_CUR, 0, 0), 7);
    CHECK_EQ("read", call(3, fd, (long)low, 10, 0, 0), 3);
    struct statx *info = (struct statx *)(low + 64);
    strcpy(low, "file");
    CHECK_EQ("statx", call(383, AT_FDCWD, (long)low, 0, STATX_SIZE, (long)info), 0);
    CHECK_EQ("its size", info->stx_size, 10);
    CHECK_EQ("ftruncate", call(93, fd, 4, 0, 0, 0), 0);
    CHECK_EQ("shorter", lseek(fd, 0, SEEK_END), 4);
    strcpy(low, "user.name");
    CHECK("fgetxattr", call(231, fd, (long)low, (long)low + 64, 16, 0) < 0);
    CHECK_EQ("chown32", call(207, fd, -1, -1, 0, 0), 0);
    close(fd);
    int *ends = (int *)low;
    CHECK_EQ("pipe2", call(331, (long)ends, O_CLOEXEC, 0, 0, 0), 0);
    int poll_fd = (int)call(329, 0, 0, 0, 0, 0);
    struct epoll_event *event = (struct epoll_event *)(low + 64);
    *event = (struct epoll_event){.events = EPOLLIN, .data.u64 = 0x123456789abcdef};
    CHECK_EQ("epoll_ctl", call(255, poll_fd, EPOLL_CTL_ADD, ends[0], (long)event, 0), 0);
    write(ends[1], "x", 1);
    memset(event, 0, sizeof *event);
    CHECK_EQ("epoll_wait", call(256, poll_fd, (long)event, 1, 1000, 0), 1);
    CHECK("its event", event->events == EPOLLIN && event->data.u64 == 0x123456789abcdef);
    CHECK_EQ("socketpair", call(360, AF_UNIX, SOCK_STREAM, 0, (long)low, 0), 0);
    strcpy(low + 64, "hello");
    CHECK_EQ("sendto", call(369, ends[0], (long)low + 64, 6, 0, 0), 6);
    CHECK_EQ("recvfrom", call(371, ends[1], (long)low + 128, 10, 0, 0), 6);
    CHECK("sent", strcmp(low + 128, "hello") == 0);
}

static long by_syscall(long number, long a)
{
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a) : "rcx", "r11", "memory");
    return result;
}

static void wide_numbers(void)
{
    CHECK_EQ("syscall, too: the upper half of the number does not count", by_syscall(1l << 32 | SYS_getpid, 0), getpid());
    CHECK_EQ("nor do its signs", by_syscall((long)0xffffffff00000000ul | SYS_getppid, 0), getppid());
    CHECK_EQ("an error", by_syscall(0x7l << 40 | SYS_close, 999), -EBADF);
    CHECK_EQ("no such number", by_syscall(1l << 32 | 999, 0), -ENOSYS);
    CHECK_EQ("none is below 0", by_syscall(-1, 0), -ENOSYS);
}

int main(void)
{
    enter_scratch();
    wide_numbers();
    low = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    identity();
    time_of_day();
    files();
    CHECK_EQ("unknown", call(9999, 0, 0, 0, 0, 0), -ENOSYS);
    return finish();
}
