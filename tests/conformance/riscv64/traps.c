/* cc: -static; only riscv64
 * Exceptions of the CPU become signals: numbers, si_code, and si_addr, which is always the instruction's; a blocked one kills. */
#include "../check.h"
#include <setjmp.h>
#include <sys/resource.h>
#include <ucontext.h>

static sigjmp_buf back;
static volatile int signo_seen, code_seen;
static void *volatile address_seen, *volatile pc_seen;

static void handler(int signo, siginfo_t *info, void *context)
{
    ucontext_t *frame = context;
    signo_seen = signo, code_seen = info->si_code, address_seen = info->si_addr;
    pc_seen = (void *)frame->uc_mcontext.__gregs[REG_PC];
    siglongjmp(back, 1);
}

#define RAISES(name, action, signo, code)                                                                              \
    do {                                                                                                               \
        signo_seen = 0;                                                                                                \
        if (sigsetjmp(back, 1) == 0) {                                                                                 \
            __asm__ volatile(action ::: "memory", "t0");                                                               \
        }                                                                                                              \
        CHECK_EQ(name ": signal", signo_seen, signo);                                                                  \
        CHECK_EQ(name ": si_code", code_seen, code);                                                                   \
        CHECK(name ": si_addr", address_seen == pc_seen && pc_seen != NULL);                                           \
    } while (0)

static void illegal(void)
{
    RAISES("sixteen zero bits", ".2byte 0", SIGILL, ILL_ILLOPC);
    RAISES("32 one bits", ".4byte 0xffffffff", SIGILL, ILL_ILLOPC);
    RAISES("unimp", "unimp", SIGILL, ILL_ILLOPC);
    RAISES("write of a read-only register", "csrw cycle, zero", SIGILL, ILL_ILLOPC);
    RAISES("read of a supervisor register", "csrr t0, sstatus", SIGILL, ILL_ILLOPC);
    RAISES("read of a machine register", "csrr t0, mhartid", SIGILL, ILL_ILLOPC);
    RAISES("a register that does not exist", "csrr t0, 0x123", SIGILL, ILL_ILLOPC);
    RAISES("sret", "sret", SIGILL, ILL_ILLOPC);
    RAISES("mret", "mret", SIGILL, ILL_ILLOPC);
    RAISES("sfence.vma", "sfence.vma", SIGILL, ILL_ILLOPC);
    RAISES("a rounding mode that does not exist", ".4byte 0x02005053", SIGILL, ILL_ILLOPC);
}

static void breakpoints(void)
{
    RAISES("ebreak", ".option push\n.option norvc\nebreak\n.option pop", SIGTRAP, TRAP_BRKPT);
    RAISES("c.ebreak", "c.ebreak", SIGTRAP, TRAP_BRKPT);
}

static void misaligned(void)
{
    static char bytes[32] __attribute__((aligned(16)));
    for (int i = 0; i < 32; i++)
        bytes[i] = (char)i;
    uint64_t wide = 0;
    uint32_t narrow = 0;
    __asm__ volatile("ld %0, 0(%1)" : "=r"(wide) : "r"(bytes + 3) : "memory");
    CHECK("a misaligned load works", wide == 0x0a09080706050403);
    __asm__ volatile("sd %0, 0(%1)" ::"r"(0x1122334455667788), "r"(bytes + 9) : "memory");
    __asm__ volatile("lwu %0, 0(%1)" : "=r"(narrow) : "r"(bytes + 9) : "memory");
    CHECK("a misaligned store works", narrow == 0x55667788 && bytes[8] == 8 && bytes[17] == 17);
    signed char *pages = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    __asm__ volatile("sd %0, 0(%1)" ::"r"(-1l), "r"(pages + PAGE - 4) : "memory");
    CHECK("across two pages", pages[PAGE - 5] == 0 && pages[PAGE - 4] == -1 && pages[PAGE + 3] == -1 && pages[PAGE + 4] == 0);
}

static void jumps(void)
{
    long value = 0;
    __asm__ volatile("la t0, 1f\naddi t0, t0, 1\njalr t0, 0(t0)\nli %0, 1\n.p2align 2\n1: addi %0, %0, 2"
                     : "+r"(value)::"t0");
    CHECK_EQ("jalr ignores the lowest bit", value, 2);
}

static void no_core(void)
{
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
}

static void blocked(void)
{
    no_core();
    sigset_t set;
    sigfillset(&set);
    sigprocmask(SIG_SETMASK, &set, NULL);
    __asm__ volatile("unimp");
}

static void ignored(void)
{
    no_core();
    signal(SIGTRAP, SIG_IGN);
    __asm__ volatile("ebreak");
}

int main(void)
{
    static const int all[] = {SIGILL, SIGTRAP, SIGSEGV, SIGBUS};
    for (int i = 0; i < 4; i++)
        catch_with(all[i], handler, 0);
    illegal();
    breakpoints();
    misaligned();
    jumps();
    CHECK("a blocked exception kills", killed(in_child(blocked), SIGILL));
    CHECK("an ignored one too", killed(in_child(ignored), SIGTRAP));
    return finish();
}
