/* check.h: what every conformance program includes.
 *
 * A program prints one line per check, "ok NAME", "FAIL NAME: why" or "skip NAME: why", and exits 0 if nothing
 * failed. Lines hold no addresses, process numbers or times, so that two runs on two kernels can be compared byte
 * for byte. Lines go out with one write(2) each: nothing is buffered across fork(2) or lost in _exit(2).
 */
#ifndef CHECK_H
#define CHECK_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wunused-result"
#pragma GCC diagnostic ignored "-Wnonnull"
#pragma GCC diagnostic ignored "-Warray-bounds"
#pragma GCC diagnostic ignored "-Wstringop-overflow"
#pragma GCC diagnostic ignored "-Wstringop-overread"
#define PAGE 4096ul

static int check_failures;
static pid_t check_owner;
static char check_scratch[PATH_MAX];

static void say(const char *format, ...)
{
    char line[512];
    va_list list;
    va_start(list, format);
    int length = vsnprintf(line, sizeof line, format, list);
    va_end(list);
    if (length > (int)sizeof line - 1)
        length = sizeof line - 1;
    if (write(1, line, (size_t)length) != length)
        _exit(99);
}

static const char *errno_name(int number)
{
    const char *name = number ? strerrorname_np(number) : "0";
    return name ? name : "unknown errno";
}

static bool check_true(const char *name, bool good, const char *what, int line)
{
    int saved = errno;
    if (good) {
        say("ok %s\n", name);
    } else {
        check_failures++;
        say("FAIL %s: line %d: %s (errno %s)\n", name, line, what, errno_name(saved));
    }
    return good;
}

static bool check_equal(const char *name, long got, long want, const char *what, int line)
{
    int saved = errno;
    if (got == want) {
        say("ok %s\n", name);
        return true;
    }
    check_failures++;
    say("FAIL %s: line %d: %s is %ld, not %ld (errno %s)\n", name, line, what, got, want, errno_name(saved));
    return false;
}

static bool check_error(const char *name, long got, int want, const char *what, int line)
{
    int saved = errno;
    if (got == -1 && saved == want) {
        say("ok %s\n", name);
        return true;
    }
    check_failures++;
    say("FAIL %s: line %d: %s gave %ld, %s; not %s\n", name, line, what, got,
        got == -1 ? errno_name(saved) : "no error", errno_name(want));
    return false;
}

/* The condition holds; the two values are equal; the call returns -1 with that errno. */
#define CHECK(name, condition) check_true(name, (condition), #condition, __LINE__)
#define CHECK_EQ(name, got, want) check_equal(name, (long)(got), (long)(want), #got, __LINE__)
#define CHECK_ERRNO(name, call, want) check_error(name, (errno = 0, (long)(call)), want, #call, __LINE__)
#define SKIP(name, why) say("skip %s: %s\n", name, why)
/* ON_X86: a check of what other architectures do not have. */
#ifdef __x86_64__
#define MACHINE "x86_64"
#define EM_HERE EM_X86_64
#define ON_X86(name, check) (check)
#else
#define MACHINE "riscv64"
#define EM_HERE EM_RISCV
#define ON_X86(name, check) SKIP(name, "only x86-64 has it")
#endif
/* A check that runs /bin/sh, where there is one for this architecture. */
#define WITH_SHELL(name, check)                                                                                        \
    do {                                                                                                               \
        if (has_shell())                                                                                               \
            (void)(check);                                                                                             \
        else                                                                                                           \
            SKIP(name, "no shell of this architecture");                                                               \
    } while (0)
#define IS_ROOT (geteuid() == 0)

static bool has_shell(void)
{
    Elf64_Ehdr head = {0};
    int fd = open("/bin/sh", O_RDONLY | O_CLOEXEC);
    bool good = fd >= 0 && read(fd, &head, sizeof head) == sizeof head && head.e_machine == EM_HERE;
    close(fd);
    return good;
}

static int finish(void)
{
    return check_failures ? 1 : 0;
}

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *walk)
{
    (void)info, (void)walk;
    if (kind == FTW_DP)
        rmdir(path);
    else
        unlink(path);
    return 0;
}

static void leave_scratch(void)
{
    if (getpid() == check_owner && chdir("/") == 0)
        nftw(check_scratch, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* A fresh, empty current directory, removed when this process exits normally. */
static void enter_scratch(void)
{
    const char *base = getenv("TMPDIR");
    snprintf(check_scratch, sizeof check_scratch, "%s/conformance-XXXXXX", base ? base : "/tmp");
    check_owner = getpid();
    if (!mkdtemp(check_scratch) || chdir(check_scratch) != 0 || atexit(leave_scratch) != 0) {
        say("FAIL scratch directory: %s\n", errno_name(errno));
        _exit(98);
    }
    umask(022);
}

static int new_file(const char *path, const char *content)
{
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    size_t length = strlen(content);
    if (fd < 0 || write(fd, content, length) != (ssize_t)length)
        check_true(path, false, "make the file", __LINE__);
    return fd;
}

/* Run `body` in a child; the wait status. The child's own failed checks come back as exit status 1. */
static int in_child(void (*body)(void))
{
    pid_t pid = fork();
    if (pid == 0) {
        check_failures = 0;
        body();
        _exit(finish());
    }
    int status = -1;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return status;
}

/* A child that only waits for signals. */
static pid_t sleeper(void)
{
    pid_t pid = fork();
    if (pid == 0)
        for (;;)
            pause();
    return pid;
}

static bool exited(int status, int code)
{
    return WIFEXITED(status) && WEXITSTATUS(status) == code;
}

static bool killed(int status, int signo)
{
    return WIFSIGNALED(status) && WTERMSIG(status) == signo;
}

static void catch_with(int signo, void (*handler)(int, siginfo_t *, void *), int flags)
{
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | flags};
    sigemptyset(&action.sa_mask);
    sigaction(signo, &action, NULL);
}

static void sleep_ms(long ms)
{
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    while (nanosleep(&time, &time) != 0 && errno == EINTR)
        ;
}

static int64_t now_ns(clockid_t clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    return time.tv_sec * 1000000000ll + time.tv_nsec;
}

/* The state letter of a task in /proc/PID/stat, or 0. */
static char task_state(pid_t pid)
{
    char path[64], text[512];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0)
        close(fd);
    if (length <= 0)
        return 0;
    text[length] = 0;
    char *end = strrchr(text, ')');
    return end ? end[2] : 0;
}

/* Wait (bounded) until a task sleeps. */
static void until_asleep(pid_t pid)
{
    for (int i = 0; i < 500 && task_state(pid) != 'S'; i++)
        sleep_ms(2);
}
#endif
