/* cc: -static
 * System calls from odd places: the end of a page, the stack, unaligned, straddling; forged frames for rt_sigreturn; bad stacks.
 * argv[1] names the attack. Natural deaths are expected; the kernel must live on. */
#include "../../conformance/check.h"
#include <ucontext.h>

static int exit_with(int code)
{
    syscall(SYS_exit_group, code);
    return 0;
}

/* mov $39, %eax; syscall; ret at the given place, then call it. */
static int call_at(char *place)
{
    memcpy(place, "\xb8\x27\x00\x00\x00\x0f\x05\xc3", 8);
    return ((int (*)(void))(void *)place)();
}

static void page_end(void)
{
    char *two = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    bool good = true;
    for (int back = 0; back < 16; back++)
        good &= call_at(two + PAGE - back) == getpid();
    munmap(two + PAGE, PAGE);
    good &= call_at(two + PAGE - 8) == getpid();
    /* the last two bytes of the address space before a hole are the syscall instruction: it returns into the hole */
    memcpy(two + PAGE - 2, "\x0f\x05", 2);
    pid_t child = fork();
    if (child == 0)
        __asm__ volatile("mov $39, %%eax; jmp *%0" ::"r"(two + PAGE - 2));
    int status;
    waitpid(child, &status, 0);
    exit_with(good && killed(status, SIGSEGV) ? 42 : 1);
}

/* A system call from every address of a page, and from across its end. */
static void every_offset(void)
{
    char *two = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    pid_t pid = getpid();
    bool good = true;
    for (unsigned long offset = 0; offset < PAGE + 64; offset++)
        good &= call_at(two + offset) == pid;
    exit_with(good ? 42 : 1);
}

/* Bases of FS and GS that no program has: in the kernel's half, in the stub, at the very end. */
static void bases(void)
{
    static const unsigned long all[] = {0, 1, 0x7fffff000000, 0x7fffffffffff, 0xffff800000000000, 0xffffffffffffffff};
    unsigned long fs, before, seen;
    bool good = true;
    __asm__ volatile("rdfsbase %0" : "=r"(before));
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++) {
        long pid = SYS_getpid, error = SYS_arch_prctl;
        __asm__ volatile("wrfsbase %3; wrgsbase %3; syscall; rdfsbase %1; rdgsbase %2; wrfsbase %4"
                         : "+a"(pid), "=&r"(fs), "=&r"(seen) : "r"(all[i]), "r"(before) : "rcx", "r11", "memory");
        good &= pid == getpid() && fs == all[i] && seen == all[i];
        __asm__ volatile("syscall" : "+a"(error) : "D"(0x1002l), "S"(0x8000000000000000l + all[i]) : "rcx", "r11", "memory");
        good &= error == -EPERM || all[i] >= 1ul << 47;
        __asm__ volatile("wrfsbase %0" ::"r"(before));
    }
    exit_with(good ? 42 : 1);
}

static void on_stack(void)
{
    char code[64] __attribute__((aligned(16)));
    uintptr_t start = (uintptr_t)code & ~(PAGE - 1);
    mprotect((void *)start, 2 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC);
    exit_with(call_at(code + 3) == getpid() ? 42 : 1);
}

static void forged(unsigned long rip, unsigned long rsp, unsigned long flags, unsigned long segments, void *fp)
{
    static struct {
        ucontext_t context;
        char fp[4096];
    } frame __attribute__((aligned(64)));
    getcontext(&frame.context);
    greg_t *regs = frame.context.uc_mcontext.gregs;
    regs[REG_RIP] = (greg_t)rip, regs[REG_RSP] = (greg_t)rsp, regs[REG_EFL] = (greg_t)flags, regs[REG_CSGSFS] = (greg_t)segments;
    frame.context.uc_mcontext.fpregs = fp ? fp : (void *)0;
    frame.context.uc_flags = fp ? 1 : 0;
    __asm__ volatile("mov %0, %%rsp; mov $15, %%eax; syscall" ::"r"(&frame.context) : "memory");
}

static char landing_stack[8192] __attribute__((aligned(16)));

static void landed(void)
{
    unsigned short cs, ss;
    unsigned long flags;
    __asm__ volatile("mov %%cs, %0; mov %%ss, %1; pushfq; pop %2" : "=r"(cs), "=r"(ss), "=r"(flags));
    exit_with((cs & 3) == 3 && (ss & 3) == 3 && !(flags & 0x3000) && (flags & 0x200) ? 42 : 1);
}

static void no_stack(void)
{
    __asm__ volatile("xor %%esp, %%esp; mov $39, %%eax; syscall; mov $231, %%eax; mov $42, %%edi; syscall" ::: "memory");
}

static void signal_without_stack(void)
{
    catch_with(SIGALRM, (void *)landed, 0);
    alarm(1);
    __asm__ volatile("mov $0xffff800000001000, %%rsp; 1: jmp 1b" ::: "memory");
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    unsigned long here = (unsigned long)landed, sp = (unsigned long)(landing_stack + 8000) & ~15ul;
    static char junk[4096] __attribute__((aligned(64)));
    memset(junk, 0xff, sizeof junk);
    if (strcmp(what, "page-end") == 0) page_end();
    if (strcmp(what, "every-offset") == 0) every_offset();
    if (strcmp(what, "bases") == 0) bases();
    if (strcmp(what, "stack") == 0) on_stack();
    if (strcmp(what, "plain-frame") == 0) forged(here, sp - 8, 0x202, 0x33 | 0x2bl << 48, NULL);
    if (strcmp(what, "iopl") == 0) forged(here, sp - 8, 0x3202, 0x33 | 0x2bl << 48, NULL);
    if (strcmp(what, "no-interrupts") == 0) forged(here, sp - 8, 0x2, 0x33 | 0x2bl << 48, NULL);
    if (strcmp(what, "all-flags") == 0) forged(here, sp - 8, ~0x100ul, 0x33 | 0x2bl << 48, NULL);
    if (strcmp(what, "ring0") == 0) forged(here, sp - 8, 0x202, 0x10 | 0x18l << 48, NULL);
    if (strcmp(what, "null-cs") == 0) forged(here, sp - 8, 0x202, 0, NULL);
    if (strcmp(what, "bad-ss") == 0) forged(here, sp - 8, 0x202, 0x33 | 0xffffl << 48, NULL);
    if (strcmp(what, "non-canonical-rip") == 0) forged(0x8000000000000000, sp, 0x202, 0x33 | 0x2bl << 48, NULL);
    if (strcmp(what, "kernel-rip") == 0) forged(0xffffffff81000000, sp, 0x202, 0x33 | 0x2bl << 48, NULL);
    if (strcmp(what, "kernel-rsp") == 0) forged(here, 0xffffffff81000000, 0x202, 0x33 | 0x2bl << 48, NULL);
    if (strcmp(what, "bad-fp-pointer") == 0) forged(here, sp - 8, 0x202, 0x33 | 0x2bl << 48, (void *)0x8000000000000040);
    if (strcmp(what, "junk-fp") == 0) forged(here, sp - 8, 0x202, 0x33 | 0x2bl << 48, junk);
    if (strcmp(what, "frame-nowhere") == 0) __asm__ volatile("mov $64, %%esp; mov $15, %%eax; syscall" ::: "memory");
    if (strcmp(what, "no-stack") == 0) no_stack();
    if (strcmp(what, "signal-without-stack") == 0) signal_without_stack();
    return 2;
}
