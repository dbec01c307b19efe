/* cc: -static; only x86_64
 * Ways into the kernel: syscall keeps every register but rax, rcx, r11; int 0x80 from 64-bit code; the vsyscall page. */
#include "../check.h"
#include <sys/time.h>
#include <ucontext.h>

/* probe(out): a value in every register, getppid, then every register to out[]; out[15] is 1 if rcx was the return
 * address, out[14] is r11 xor rflags. */
__asm__(".text\n"
        "probe: push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15; push %rdi\n"
        "mov $0x1001, %rbx; mov $0x1002, %rdx; mov $0x1003, %rsi; mov $0x1004, %rdi; mov $0x1005, %rbp\n"
        "mov $0x1008, %r8; mov $0x1009, %r9; mov $0x100a, %r10; mov $0x100c, %r12; mov $0x100d, %r13\n"
        "mov $0x100e, %r14; mov $0x100f, %r15; mov $110, %eax\n"
        "std; stc; syscall\n"
        "1: pushfq; cld; xchg (%rsp), %r11; xchg 8(%rsp), %rax\n"
        "mov %rbx, 8(%rax); mov %rdx, 16(%rax); mov %rsi, 24(%rax); mov %rdi, 32(%rax); mov %rbp, 40(%rax)\n"
        "mov %r8, 64(%rax); mov %r9, 72(%rax); mov %r10, 80(%rax); mov %r12, 96(%rax); mov %r13, 104(%rax)\n"
        "mov %r14, 48(%rax); mov %r15, 56(%rax); pop %rbx; xor %r11, %rbx; mov %rbx, 112(%rax)\n"
        "lea 1b(%rip), %rbx; xor %edx, %edx; cmp %rbx, %rcx; sete %dl; mov %rdx, 120(%rax)\n"
        "pop %rbx; mov %rbx, (%rax); pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx; ret\n");
extern void probe(uint64_t *out);

static void registers(void)
{
    static const uint64_t want[14] = {0,      0x1001, 0x1002, 0x1003, 0x1004, 0x1005, 0x100e,
                                      0x100f, 0x1008, 0x1009, 0x100a, 0,      0x100c, 0x100d};
    uint64_t out[16] = {0};
    probe(out);
    bool kept = true;
    for (int i = 1; i < 14; i++)
        kept &= out[i] == want[i];
    CHECK("rax is the result", (pid_t)out[0] == getppid());
    CHECK("all other registers are kept", kept);
    CHECK_EQ("flags are kept, r11 has them", out[14], 0);
    CHECK_EQ("rcx is the return address", out[15], 1);
}

static long int80(long number, long a, long b, long c)
{
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c) : "memory");
    return result;
}

static void by_int80(void)
{
    char *low = mmap((void *)0x10000000, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    CHECK_EQ("getpid", int80(20, 0, 0, 0), getpid());
    CHECK_EQ("numbers are those of i386: 64 is getppid", int80(64, 0, 0, 0), getppid());
    CHECK_EQ("errors", int80(6, 999, 0, 0), -EBADF);
    CHECK_EQ("unknown call", int80(9999, 0, 0, 0), -ENOSYS);
    strcpy(low, "ok written by int 0x80\n");
    CHECK_EQ("write from low memory", int80(4, 1, (long)low, 23), 23);
    CHECK_EQ("the upper half of the number does not count", int80(0x500000014, 0, 0, 0), getpid());
}

static volatile int inside;

static void stepped(int signo, siginfo_t *info, void *context)
{
    (void)signo, (void)info;
    inside += ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] == (greg_t)0xffffffffff600400;
}

static void step(bool on)
{
    __asm__ volatile("pushfq; andl $~0x100, (%%rsp); orq %0, (%%rsp); popfq" ::"r"(on ? 0x100l : 0) : "cc", "memory");
}

static void by_vsyscall(void)
{
    int (*get_time_of_day)(struct timeval *, void *) = (void *)0xffffffffff600000;
    time_t (*get_time)(time_t *) = (void *)0xffffffffff600400;
    struct timeval tv = {0, 0};
    CHECK("gettimeofday", get_time_of_day(&tv, NULL) == 0 && labs(tv.tv_sec - time(NULL)) <= 2);
    time_t stored = 0;
    time_t got = get_time(&stored);
    CHECK("time", got == stored && labs(got - tv.tv_sec) <= 2);
    struct sigaction act = {.sa_sigaction = stepped, .sa_flags = SA_SIGINFO};
    sigaction(SIGTRAP, &act, NULL);
    step(true);
    got = get_time(&stored);
    step(false);
    CHECK("single-stepped: the whole call is one step", inside == 1 && got == stored);
}

int main(void)
{
    registers();
    by_int80();
    if (strstr(getenv("CONFORMANCE") ? getenv("CONFORMANCE") : "vsyscall", "vsyscall"))
        by_vsyscall();
    return finish();
}
