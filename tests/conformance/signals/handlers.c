/* cc: -static
 * Handlers: SA_ flags, masks while one runs, nesting, sigaltstack(2), sigsuspend(2), changes of the saved registers. */
#include "../check.h"
#include <setjmp.h>
#include <ucontext.h>

static volatile int depth, deepest, runs, blocked_during, on_stack;
static char alternate[65536] __attribute__((aligned(16)));
static sigjmp_buf back;

static void nesting(int signo, siginfo_t *info, void *context)
{
    (void)info, (void)context;
    runs++, depth++;
    deepest = depth > deepest ? depth : deepest;
    sigset_t now;
    sigprocmask(SIG_BLOCK, NULL, &now);
    blocked_during = sigismember(&now, signo) + 2 * sigismember(&now, SIGUSR2);
    char here;
    on_stack = &here >= alternate && &here < alternate + sizeof alternate;
    if (runs < 3)
        raise(signo);
    depth--;
}

static void with_flags(int flags, bool mask_usr2)
{
    struct sigaction action = {.sa_sigaction = nesting, .sa_flags = SA_SIGINFO | flags};
    sigemptyset(&action.sa_mask);
    if (mask_usr2)
        sigaddset(&action.sa_mask, SIGUSR2);
    sigaction(SIGUSR1, &action, NULL);
    runs = depth = deepest = on_stack = 0;
    raise(SIGUSR1);
}

static void flags(void)
{
    with_flags(0, false);
    CHECK("one at a time", runs == 3 && deepest == 1 && blocked_during == 1);
    with_flags(0, true);
    CHECK_EQ("sa_mask", blocked_during, 3);
    with_flags(SA_NODEFER, false);
    CHECK("SA_NODEFER nests", runs == 3 && deepest == 3 && blocked_during == 0);
    sigset_t now;
    sigprocmask(SIG_BLOCK, NULL, &now);
    CHECK("the mask is restored", sigisemptyset(&now));
    runs = 5;
    struct sigaction action = {.sa_sigaction = nesting, .sa_flags = SA_SIGINFO | SA_RESETHAND}, seen;
    sigaction(SIGUSR1, &action, NULL);
    raise(SIGUSR1);
    sigaction(SIGUSR1, NULL, &seen);
    CHECK("SA_RESETHAND", seen.sa_handler == SIG_DFL);
}

static void stacks(void)
{
    stack_t mine = {.ss_sp = alternate, .ss_size = sizeof alternate}, old;
    CHECK("none at first", sigaltstack(NULL, &old) == 0 && old.ss_flags == SS_DISABLE);
    CHECK_EQ("set", sigaltstack(&mine, NULL), 0);
    with_flags(SA_ONSTACK, false);
    CHECK_EQ("SA_ONSTACK", on_stack, 1);
    with_flags(0, false);
    CHECK_EQ("without it", on_stack, 0);
    stack_t tiny = {.ss_sp = alternate, .ss_size = 100};
    CHECK_ERRNO("too small", sigaltstack(&tiny, NULL), ENOMEM);
    stack_t wrong = {.ss_sp = alternate, .ss_size = sizeof alternate, .ss_flags = 77};
    CHECK_ERRNO("bad flags", sigaltstack(&wrong, NULL), EINVAL);
}

static void inside(int signo, siginfo_t *info, void *context)
{
    (void)signo, (void)info, (void)context;
    stack_t old, other = {.ss_sp = alternate, .ss_size = sizeof alternate};
    sigaltstack(NULL, &old);
    CHECK_EQ("SS_ONSTACK while on it", old.ss_flags, SS_ONSTACK);
    CHECK_ERRNO("cannot change it now", sigaltstack(&other, NULL), EPERM);
}

static volatile int got;
static void note(int signo, siginfo_t *info, void *context)
{
    (void)info, (void)context;
    got = signo;
}

static void suspend(void)
{
    sigset_t set, empty, now;
    sigemptyset(&empty), sigemptyset(&set), sigaddset(&set, SIGUSR2);
    sigprocmask(SIG_BLOCK, &set, NULL);
    catch_with(SIGUSR2, note, 0);
    raise(SIGUSR2);
    CHECK_ERRNO("sigsuspend lets a pending one in", sigsuspend(&empty), EINTR);
    CHECK_EQ("its handler ran", got, SIGUSR2);
    sigprocmask(SIG_BLOCK, NULL, &now);
    CHECK("the mask is back", sigismember(&now, SIGUSR2));
    pid_t pid = fork();
    got = 0;
    if (pid == 0) {
        until_asleep(getppid());
        kill(getppid(), SIGUSR2);
        _exit(0);
    }
    CHECK_ERRNO("waits for one", sigsuspend(&empty), EINTR);
    CHECK_EQ("from elsewhere", got, SIGUSR2);
    waitpid(pid, NULL, 0);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    signal(SIGUSR2, SIG_DFL);
}

static void edits(int signo, siginfo_t *info, void *context)
{
    (void)signo, (void)info;
    ucontext_t *frame = context;
#ifdef __x86_64__
    frame->uc_mcontext.gregs[REG_RBX] = 0x1122334455667788;
    frame->uc_mcontext.gregs[REG_RIP] += 2;
#else
    frame->uc_mcontext.__gregs[REG_S1] = 0x1122334455667788;
    frame->uc_mcontext.__gregs[REG_PC] += 4;
#endif
    sigaddset(&frame->uc_sigmask, SIGWINCH);
}

static void leaves(int signo, siginfo_t *info, void *context)
{
    (void)info, (void)context;
    siglongjmp(back, signo);
}

static void registers(void)
{
    catch_with(SIGILL, edits, 0);
#ifdef __x86_64__
    long value = 1;
    __asm__ volatile("ud2" : "+b"(value)::"memory");
#else
    register long value __asm__("s1") = 1;
    __asm__ volatile("csrw sstatus, zero" : "+r"(value)::"memory");
#endif
    CHECK("the handler's changes take effect", value == 0x1122334455667788);
    sigset_t now;
    sigprocmask(SIG_BLOCK, NULL, &now);
    CHECK("also of the mask", sigismember(&now, SIGWINCH));
    catch_with(SIGTERM, leaves, 0);
    int how = sigsetjmp(back, 1);
    if (how == 0)
        raise(SIGTERM);
    CHECK_EQ("siglongjmp out", how, SIGTERM);
    sigprocmask(SIG_BLOCK, NULL, &now);
    CHECK("with the mask restored", !sigismember(&now, SIGTERM));
}

int main(void)
{
    flags();
    stacks();
    catch_with(SIGHUP, inside, SA_ONSTACK);
    raise(SIGHUP);
    suspend();
    registers();
    return finish();
}
