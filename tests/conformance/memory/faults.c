/* cc: -static
 * SIGSEGV and SIGBUS: si_code and si_addr of each cause; stack growth; faults seen by the kernel are EFAULT. */
#include "../check.h"
#include <setjmp.h>
#include <sys/resource.h>
#include <ucontext.h>

static sigjmp_buf back;
static volatile int got_signal, got_code;
static void *volatile got_address;
static volatile long got_error, got_trap;
static char alternate[65536];

static void on_fault(int signo, siginfo_t *info, void *context)
{
    (void)context;
    got_signal = signo, got_code = info->si_code, got_address = info->si_addr;
#ifdef __x86_64__
    ucontext_t *frame = context;
    got_error = frame->uc_mcontext.gregs[REG_ERR], got_trap = frame->uc_mcontext.gregs[REG_TRAPNO];
#endif
    siglongjmp(back, 1);
}

/* "signal code" of what `access` does at `address`; the address must be the one reported. */
#define FAULTS(name, access, at, signo, code)                                                                          \
    do {                                                                                                               \
        got_signal = 0;                                                                                                \
        if (sigsetjmp(back, 1) == 0) {                                                                                 \
            access;                                                                                                    \
        }                                                                                                              \
        CHECK_EQ(name ": signal", got_signal, signo);                                                                  \
        CHECK_EQ(name ": si_code", got_code, code);                                                                    \
        CHECK(name ": si_addr", got_address == (void *)(at));                                                          \
    } while (0)

static void causes(void)
{
    volatile char *p = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap((void *)(p + PAGE), PAGE);
    mprotect((void *)(p + 2 * PAGE), PAGE, PROT_READ);
    mprotect((void *)(p + 3 * PAGE), PAGE, PROT_NONE);
    FAULTS("read unmapped", (void)p[PAGE + 123], p + PAGE + 123, SIGSEGV, SEGV_MAPERR);
    ON_X86("user read of an absent page: error code", CHECK_EQ("user read of an absent page: error code", got_error, 4));
    ON_X86("trap number", CHECK_EQ("trap number", got_trap, 14));
    FAULTS("write unmapped", p[PAGE + 8] = 1, p + PAGE + 8, SIGSEGV, SEGV_MAPERR);
    ON_X86("user write of an absent page: error code", CHECK_EQ("user write of an absent page: error code", got_error, 6));
    FAULTS("write read-only, never touched", p[2 * PAGE + 1] = 1, p + 2 * PAGE + 1, SIGSEGV, SEGV_ACCERR);
    (void)p[2 * PAGE];
    FAULTS("write read-only, present", p[2 * PAGE + 2] = 1, p + 2 * PAGE + 2, SIGSEGV, SEGV_ACCERR);
    ON_X86("user write of a present page: error code", CHECK_EQ("user write of a present page: error code", got_error, 7));
    FAULTS("read PROT_NONE", (void)p[3 * PAGE], p + 3 * PAGE, SIGSEGV, SEGV_ACCERR);
    FAULTS("null", (void)*(volatile char *)0, 0, SIGSEGV, SEGV_MAPERR);
    FAULTS("kernel address", (void)*(volatile char *)0xffffffff81000000, 0xffffffff81000000, SIGSEGV, SEGV_MAPERR);
#ifdef __x86_64__
    FAULTS("non-canonical", (void)*(volatile char *)0x8000000000000000, 0, SIGSEGV, SI_KERNEL);
#else
    FAULTS("non-canonical", (void)*(volatile char *)0x8000000000000000, 0x8000000000000000, SIGSEGV, SEGV_MAPERR);
#endif
    FAULTS("execute data", ((void (*)(void))(uintptr_t)p)(), p, SIGSEGV, SEGV_ACCERR);
    FAULTS("jump to nowhere", ((void (*)(void))16)(), 16, SIGSEGV, SEGV_MAPERR);
    mprotect((void *)(p + 3 * PAGE), PAGE, PROT_READ | PROT_WRITE);
    p[3 * PAGE] = 3;
    CHECK("the page works after mprotect", p[3 * PAGE] == 3);
}

static void file_end(void)
{
    int fd = new_file("f", "short");
    volatile char *p = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK("first page", p[0] == 's' && p[100] == 0);
    FAULTS("beyond the end of the file", (void)p[PAGE + 5], p + PAGE + 5, SIGBUS, BUS_ADRERR);
    ftruncate(fd, 2 * PAGE);
    CHECK("grown file", p[PAGE + 5] == 0);
    p[PAGE] = 'x';
    ftruncate(fd, PAGE);
    FAULTS("truncated under the map", (void)p[PAGE], p + PAGE, SIGBUS, BUS_ADRERR);
    CHECK_ERRNO("read(2) into it", pread(fd, (char *)p + PAGE, 1, 0), EFAULT);
}

static int depth(int levels)
{
    volatile char room[4000];
    room[0] = (char)levels;
    return levels == 0 ? 0 : 1 + depth(levels - 1) + (room[0] != (char)levels);
}

static void stack(void)
{
    CHECK_EQ("the stack grows by 4 MB", depth(1000), 1000);
    stack_t other = {.ss_sp = alternate, .ss_size = sizeof alternate};
    sigaltstack(&other, NULL);
    got_signal = 0;
    if (sigsetjmp(back, 1) == 0)
        depth(100000);
    CHECK_EQ("overflow", got_signal, SIGSEGV);
    CHECK_EQ("overflow: si_code", got_code, SEGV_MAPERR);
}

static void overflow_without_altstack(void)
{
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    stack_t off = {.ss_flags = SS_DISABLE};
    sigaltstack(&off, NULL);
    depth(100000);
}

static void plain_death(void)
{
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    signal(SIGSEGV, SIG_DFL);
    *(volatile char *)24 = 1;
}

static void ignored_death(void)
{
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    signal(SIGSEGV, SIG_IGN);
    *(volatile char *)24 = 1;
}

int main(void)
{
    enter_scratch();
    catch_with(SIGSEGV, on_fault, SA_ONSTACK);
    catch_with(SIGBUS, on_fault, SA_ONSTACK);
    causes();
    file_end();
    stack();
    CHECK("no room for the frame kills", killed(in_child(overflow_without_altstack), SIGSEGV));
    CHECK("default action kills", killed(in_child(plain_death), SIGSEGV));
    CHECK("a fault cannot be ignored", killed(in_child(ignored_death), SIGSEGV));
    return finish();
}
