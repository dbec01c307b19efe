/* cc: -static
 * Every declared system call, a hostile value in each argument position in turn, and in each pair of positions of an address and
 * a length; the rest of the arguments make sense. `calls.h` is generated from the declarations, see hostile_arguments.py.
 * argv: first call, step between calls, seed, "int80" for the 32-bit entry. The calls are made by children, which may die of them; whoever hangs is killed. */
#include "../../conformance/check.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>

struct call {
    const char *name, *kinds; /* p address, s string, n 64-bit number, f descriptor, d directory, i process, g signal, v number */
    int number, compat; /* x86-64's number, and that of int $0x80 or -1 */
};
static const struct call calls[] = {
#include CALLS_H
};
#define COUNT (sizeof calls / sizeof *calls)

static volatile struct progress {
    long attempt, seed, deaths, stuck;
} *progress;
static char *area; /* good page, good page, read-only page, hole, PROT_NONE page, hole, good page at the end of a hole */
static uint64_t state;
static int descriptors[10];
static bool int80;

static uint64_t next(void)
{
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return state;
}

#define PAGES(n) ((uint64_t)area + (n) * PAGE)

static uint64_t hostile(unsigned which, uint64_t other)
{
    switch (which) {
    case 0: return 0;
    case 1: return 1;
    case 2: return PAGES(2);                /* read-only */
    case 3: return PAGES(2) - 1;            /* straddles into read-only */
    case 4: return PAGES(3);                /* a hole */
    case 5: return PAGES(3) - 1 - next() % 64; /* straddles into a hole */
    case 6: return PAGES(4);                /* no access */
    case 7: return PAGES(6) - 1 - next() % 64; /* starts in a hole */
    case 8: return 0x7fffffffefff;          /* around the end of user space */
    case 9: return 0x7ffffffff000;
    case 10: return 0x7fffff000000 + next() % 0x100000;
    case 11: return 0x8000000000000000;
    case 12: return 0xffffffff81000000;
    case 13: return ~0ull;
    case 14: return -PAGE - next() % 16;
    case 15: return -other;                 /* wraps to 0 with the other one */
    case 16: return -other - 1;
    case 17: return 0x7fffffff;
    case 18: return 0x80000000;
    case 19: return 0xffffffff;
    case 20: return 0x7fffffffffffffff;
    case 21: return 0x100000000;
    case 22: return PAGE + 1;
    case 23: return PAGES(1) | (next() & 7);
    case 24: return 1ull << next() % 64;
    default: return next();
    }
}
#define HOSTILE 26

/* A good page's content: zeros, ones, small numbers, or words that are hostile themselves (iovecs, vectors of strings). */
static void fill(void)
{
    uint64_t *words = (uint64_t *)area;
    unsigned kind = next() % 5, which = next() % HOSTILE;
    for (unsigned i = 0; i < 2 * PAGE / 8; i++)
        words[i] = kind == 0 ? 0 : kind == 1 ? ~0ull : kind == 2 ? next() % 4 : kind == 3 ? hostile(which, PAGES(0)) : hostile(next() % HOSTILE, PAGES(0));
    strcpy(area + PAGE + 512, next() % 2 ? "/tmp/x" : "x");
}

static uint64_t sensible(char kind)
{
    switch (kind) {
    case 'p': return PAGES(next() % 2) + (next() % 4 ? 0 : next() % 256);
    case 's': return PAGES(1) + 512;
    case 'n': return next() % 4 ? next() % 64 : PAGE;
    case 'f': return (uint64_t)descriptors[next() % 10];
    case 'd': return (uint64_t)(next() % 2 ? AT_FDCWD : descriptors[2]);
    case 'i': return next() % 2 ? 0 : (uint64_t)getpid();
    case 'g': return next() % 65;
    default: return next() % 3 ? next() % 4 : 1u << next() % 32;
    }
}

static void enter(const struct call *call, const uint64_t *a)
{
    if (!int80) {
        syscall(call->number, a[0], a[1], a[2], a[3], a[4], a[5]);
        return;
    }
    long result = call->compat; /* ebx may be the compiler's, and so may ebp */
    __asm__ volatile("push %%rbx; push %%rbp; mov %[b], %%rbx; mov %[f], %%rbp; int $0x80; pop %%rbp; pop %%rbx"
                     : "+a"(result) : [b] "r"(a[0]), [f] "m"(*(const uint64_t(*)[1])(a + 5)), "c"(a[1]), "d"(a[2]), "S"(a[3]), "D"(a[4])
                     : "memory", "r8", "r9", "r10", "r11");
}

static void nothing(int signo)
{
    (void)signo;
}

static void prepare(void)
{
    setpgid(0, 0);
    struct rlimit cpu = {5, 6}, file = {1 << 20, 1 << 20};
    setrlimit(RLIMIT_CPU, &cpu), setrlimit(RLIMIT_FSIZE, &file);
    struct sigaction action = {.sa_handler = nothing};
    for (int signo = 1; signo < 65; signo++)
        if (signo != SIGSEGV && signo != SIGBUS && signo != SIGXCPU && signo != SIGILL && signo != SIGTRAP)
            sigaction(signo, &action, NULL);
    struct itimerval often = {{0, 3000}, {0, 3000}};
    setitimer(ITIMER_REAL, &often, NULL);
}

static long total_of(const struct call *call)
{
    size_t count = strlen(call->kinds);
    return (long)(HOSTILE * (count ? count : 1) * (count > 1 ? 6 : 2));
}

static void attempts(const struct call *call, long from)
{
    int count = (int)strlen(call->kinds);
    long total = total_of(call);
    pid_t pid = getpid();
    prepare();
    for (long attempt = from; attempt < total; attempt++) {
        state = 88172645463325252ull + (uint64_t)attempt * 7919 + (uint64_t)call->number * 104729 + progress->seed;
        next(), next();
        progress->attempt = attempt;
        fill();
        uint64_t a[6] = {0};
        for (int i = 0; i < count; i++)
            a[i] = sensible(call->kinds[i]);
        int position = count ? (int)(attempt / HOSTILE % count) : 0, partner = (int)(next() % 6);
        a[position] = hostile(attempt % HOSTILE, a[partner]);
        if (attempt / HOSTILE >= count && partner < count) /* later rounds: two at once */
            a[partner] = hostile(next() % HOSTILE, a[position]);
        if (call->number == SYS_kill && (int)a[0] == -1)
            continue; /* everybody, the parent too */
        enter(call, a);
        if (syscall(SYS_getpid) != pid)
            syscall(SYS_exit_group, 0); /* the call was a fork */
    }
    progress->attempt = total;
    syscall(SYS_exit_group, 0);
}

/* All attempts with one call: another child goes on after each death. */
static void all_attempts(const struct call *call)
{
    for (long from = 0; from < total_of(call); from = progress->attempt + 1) {
        progress->attempt = from;
        pid_t pid = fork();
        if (pid == 0)
            attempts(call, from);
        int status = 0;
        long seen = -1;
        for (int waited = 0; waitpid(pid, &status, WNOHANG) == 0; waited++) {
            if (waited > 20 && waited % 200 == 0) {
                if (progress->attempt == seen)
                    kill(pid, SIGKILL), progress->stuck++;
                seen = progress->attempt;
            }
            sleep_ms(waited < 20 ? 1 : 10);
        }
        progress->deaths += progress->attempt < total_of(call);
    }
}

int main(int argc, char **argv)
{
    unsigned first = argc > 1 ? (unsigned)atoi(argv[1]) : 0, step = argc > 2 ? (unsigned)atoi(argv[2]) : 1;
    progress = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    progress->seed = argc > 3 ? atol(argv[3]) : 1;
    int80 = argc > 4 && strcmp(argv[4], "int80") == 0;
    area = mmap(int80 ? (void *)0x10000000 : NULL, 7 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(area, 0, 7 * PAGE);
    mprotect(area + 2 * PAGE, PAGE, PROT_READ);
    munmap(area + 3 * PAGE, PAGE), munmap(area + 5 * PAGE, PAGE);
    mprotect(area + 4 * PAGE, PAGE, PROT_NONE);
    mkdir("/tmp/work", 0777), chdir("/tmp/work");
    int pair[2], tube[2];
    socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), pipe2(tube, O_NONBLOCK);
    int opened[10] = {
        open("/tmp/file", O_RDWR | O_CREAT, 0600), open("/dev/zero", O_RDWR), open("/tmp", O_RDONLY | O_DIRECTORY), pair[0], tube[0],
        tube[1], epoll_create1(0), eventfd(3, EFD_NONBLOCK), open("/proc/self/maps", O_RDONLY), socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0),
    };
    memcpy(descriptors, opened, sizeof opened);
    unsigned tried = 0;
    for (unsigned i = first; i < COUNT; i += step, tried++) {
        if (int80 && calls[i].compat < 0)
            continue;
        all_attempts(&calls[i]);
        while (waitpid(-1, NULL, WNOHANG) > 0)
            ;
    }
    say("tried %u calls, %ld deaths, %ld stuck\n", tried, progress->deaths, progress->stuck);
    _exit(42);
}
