/* cc: -static -pthread; only x86_64
 * prctl(2) PR_SET_SYSCALL_USER_DISPATCH: calls come back as SIGSYS, as a byte of the program's says; who does not inherit it. */
#include "../check.h"
#include <pthread.h>
#include <sys/prctl.h>
#include <ucontext.h>

#ifndef PR_SET_SYSCALL_USER_DISPATCH
#define PR_SET_SYSCALL_USER_DISPATCH 59
#endif
enum { OFF, ON };
enum { ALLOW, BLOCK };

static volatile char selector;
static volatile int caught, code, number, arch;
static volatile long rax;
static void *volatile place;

extern char after_foreign[];

/* A call from a place that is not the program's own. */
__asm__("foreign: mov %edi, %eax; mov %rsi, %rdi; mov %rdx, %rsi; syscall; .globl after_foreign; after_foreign: ret");
extern long foreign(long number, long a, long b);

static void emulate(int signo, siginfo_t *info, void *context)
{
    (void)signo;
    greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
    selector = ALLOW;
    caught++, code = info->si_code, number = info->si_syscall, arch = (int)info->si_arch, place = info->si_call_addr;
    rax = regs[REG_RAX];
    regs[REG_RAX] = 4711;
}

static long set(long mode, unsigned long start, unsigned long length, volatile char *byte)
{
    return prctl(PR_SET_SYSCALL_USER_DISPATCH, mode, start, length, byte);
}

static void arguments(void)
{
    CHECK_ERRNO("no such mode", set(7, 0, 0, &selector), EINVAL);
    CHECK_ERRNO("a range that wraps around", set(ON, 1, -1ul, &selector), EINVAL);
    CHECK_ERRNO("a range without length", set(ON, 4096, 0, &selector), EINVAL);
    CHECK_ERRNO("no byte of user space", set(ON, 0, 0, (char *)0x8000000000000000), EFAULT);
    CHECK_ERRNO("off, with a start", set(OFF, 4096, 0, NULL), EINVAL);
    CHECK_ERRNO("off, with a length", set(OFF, 0, 4096, NULL), EINVAL);
    CHECK_ERRNO("off, with a byte", set(OFF, 0, 0, &selector), EINVAL);
    CHECK_EQ("off", set(OFF, 0, 0, NULL), 0);
}

static void *beside(void *unused)
{
    (void)unused;
    return (void *)foreign(SYS_getppid, 0, 0);
}

static void sent_back(void)
{
    CHECK_EQ("on", set(ON, 0, 0, &selector), 0);
    CHECK_EQ("allowed", foreign(SYS_getpid, 0, 0), getpid());
    selector = BLOCK;
    long result = foreign(SYS_getpid, 0, 0);
    CHECK_EQ("blocked: the handler's result", result, 4711);
    CHECK("once, as what it is", caught == 1 && code == 2 && number == SYS_getpid && (unsigned)arch == 0xc000003eu);
    CHECK("with the number in its register, at its place", rax == SYS_getpid && place == after_foreign);
    selector = BLOCK;
    result = foreign(99999, 0, 0);
    CHECK("a number that is none", result == 4711 && caught == 2 && number == 99999);
    selector = BLOCK;
    result = foreign(SYS_exit_group, 1, 0);
    CHECK("a call that ends processes", result == 4711 && caught == 3);
    pthread_t thread;
    void *ppid = NULL;
    pthread_create(&thread, NULL, beside, NULL);
    pthread_join(thread, &ppid);
    CHECK("another thread is not concerned", (long)ppid == getppid() && caught == 3);
    CHECK_EQ("off again", set(OFF, 0, 0, NULL), 0);
    selector = BLOCK;
    CHECK("and served", foreign(SYS_getpid, 0, 0) == getpid() && caught == 3);
    selector = ALLOW;
}

static void ranges(void)
{
    CHECK_EQ("a range", set(ON, (unsigned long)after_foreign - 64, 128, &selector), 0);
    selector = BLOCK;
    long result = foreign(SYS_getpid, 0, 0);
    selector = ALLOW;
    CHECK("a call from inside is served", result == getpid() && caught == 3);
    set(OFF, 0, 0, NULL);
    CHECK_EQ("without a byte, all else comes back", set(ON, 1, 1ul << 62, NULL), 0);
    result = foreign(SYS_getpid, 0, 0);
    CHECK("from inside", result == getpid() && caught == 3);
    set(OFF, 0, 0, NULL);
}

static void child(void)
{
    set(ON, 0, 0, &selector);
    pid_t pid = fork();
    if (pid == 0) {
        selector = BLOCK; /* of the child's memory only */
        _exit(foreign(SYS_getppid, 0, 0) == 4711);
    }
    int status = 1;
    waitpid(pid, &status, 0);
    set(OFF, 0, 0, NULL);
    CHECK("a child is not concerned", exited(status, 0));
}

static void bad_value(void)
{
    set(ON, 0, 0, &selector);
    selector = 2;
    foreign(SYS_getpid, 0, 0);
}

static void no_byte(void)
{
    set(ON, 0, 0, (char *)16);
    foreign(SYS_getpid, 0, 0);
}

static void without_handler(void)
{
    signal(SIGSYS, SIG_DFL);
    set(ON, 0, 0, &selector);
    selector = BLOCK;
    foreign(SYS_getpid, 0, 0);
}

int main(void)
{
    if (set(OFF, 0, 0, NULL) != 0) {
        say("skip all: no syscall user dispatch\n");
        return 0;
    }
    catch_with(SIGSYS, emulate, 0);
    arguments();
    sent_back();
    ranges();
    child();
    CHECK("a value that means nothing kills", killed(in_child(bad_value), SIGSYS));
    CHECK("a byte that is not there kills", killed(in_child(no_byte), SIGSEGV));
    CHECK("without a handler it kills", killed(in_child(without_handler), SIGSYS));
    return finish();
}
