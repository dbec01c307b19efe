/* cc: -static -lm; only x86_64
 * Exceptions of the CPU become signals: numbers, si_code, si_addr, trap number; a blocked one kills. */
#include "../check.h"
#include <fenv.h>
#include <setjmp.h>
#include <sys/resource.h>
#include <ucontext.h>

static sigjmp_buf back;
static char alternate[64] __attribute__((aligned(16)));
static volatile int signo_seen, code_seen, trap_seen;
static void *volatile address_seen, *volatile pc_seen;

static void handler(int signo, siginfo_t *info, void *context)
{
    ucontext_t *frame = context;
    signo_seen = signo, code_seen = info->si_code, address_seen = info->si_addr;
    trap_seen = (int)frame->uc_mcontext.gregs[REG_TRAPNO];
    pc_seen = (void *)frame->uc_mcontext.gregs[REG_RIP];
    siglongjmp(back, 1);
}

#define RAISES(name, action, signo, code, trap)                                                                        \
    do {                                                                                                               \
        signo_seen = 0;                                                                                                \
        if (sigsetjmp(back, 1) == 0) {                                                                                 \
            action;                                                                                                    \
        }                                                                                                              \
        CHECK_EQ(name ": signal", signo_seen, signo);                                                                  \
        CHECK_EQ(name ": si_code", code_seen, code);                                                                   \
        CHECK_EQ(name ": trap", trap_seen, trap);                                                                      \
    } while (0)

static void divide(int by)
{
    int high = 0, low = 7;
    __asm__ volatile("idivl %2" : "+a"(low), "+d"(high) : "r"(by) : "cc");
}

static void integers(void)
{
    RAISES("divide by zero", divide(0), SIGFPE, FPE_INTDIV, 0);
    CHECK("its si_addr is the instruction", address_seen == pc_seen && pc_seen != NULL);
    RAISES("ud2", __asm__ volatile("ud2"), SIGILL, ILL_ILLOPN, 6);
    CHECK("its si_addr", address_seen == pc_seen);
    RAISES("int3", __asm__ volatile("int3"), SIGTRAP, SI_KERNEL, 3);
    RAISES("hlt", __asm__ volatile("hlt"), SIGSEGV, SI_KERNEL, 13);
    CHECK("its si_addr is 0", address_seen == NULL);
    RAISES("cli", __asm__ volatile("cli"), SIGSEGV, SI_KERNEL, 13);
    RAISES("in", __asm__ volatile("inb $0x70, %%al" ::: "rax"), SIGSEGV, SI_KERNEL, 13);
    RAISES("read cr3", __asm__ volatile("mov %%cr3, %%rax" ::: "rax"), SIGSEGV, SI_KERNEL, 13);
    RAISES("int 0x21", __asm__ volatile("int $0x21"), SIGSEGV, SI_KERNEL, 13);
    RAISES("a bad selector", __asm__ volatile("mov %0, %%es" ::"r"(0x1234)), SIGSEGV, SI_KERNEL, 13);
}

static void single_step(void)
{
    RAISES("trap flag", __asm__ volatile("pushfq; orq $0x100, (%%rsp); popfq; nop; nop" ::: "cc", "memory"), SIGTRAP,
           TRAP_TRACE, 1);
}

static void vectors(void)
{
    float zero = 0, one = 1;
    unsigned mxcsr = 0x1f80 & ~0x200u;
    RAISES("SSE divide by zero, unmasked",
           __asm__ volatile("ldmxcsr %1; divss %2, %0" : "+x"(one) : "m"(mxcsr), "x"(zero)), SIGFPE, FPE_FLTDIV, 19);
    mxcsr = 0x1f80;
    __asm__ volatile("ldmxcsr %0" ::"m"(mxcsr));
    RAISES("x87 divide by zero, unmasked",
           (feenableexcept(FE_DIVBYZERO), ({ __asm__ volatile("fld1; fldz; fdivrp; fwait" ::: "st"); 0; })), SIGFPE,
           FPE_FLTDIV, 16);
    fedisableexcept(FE_ALL_EXCEPT);
    __asm__ volatile("fninit");
    char *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    RAISES("movaps unaligned", __asm__ volatile("movaps %%xmm0, (%0)" ::"r"(page + 1) : "memory"), SIGSEGV, SI_KERNEL, 13);
}

static void no_core(void)
{
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
}

static void misaligned(void)
{
    no_core();
    signal(SIGBUS, SIG_DFL);
    __asm__ volatile("pushfq; orq $0x40000, (%%rsp); popfq; movl (%0), %%eax" ::"r"(alternate + 1) : "rax", "memory", "cc");
}

static void blocked(void)
{
    no_core();
    sigset_t set;
    sigfillset(&set);
    sigprocmask(SIG_SETMASK, &set, NULL);
    __asm__ volatile("ud2");
}

static void ignored(void)
{
    no_core();
    signal(SIGFPE, SIG_IGN);
    divide(0);
}

int main(void)
{
    static const int all[] = {SIGFPE, SIGILL, SIGTRAP, SIGSEGV, SIGBUS};
    for (int i = 0; i < 5; i++)
        catch_with(all[i], handler, 0);
    integers();
    single_step();
    vectors();
    CHECK("alignment check", killed(in_child(misaligned), SIGBUS));
    CHECK("a blocked exception kills", killed(in_child(blocked), SIGILL));
    CHECK("an ignored one too", killed(in_child(ignored), SIGFPE));
    return finish();
}
