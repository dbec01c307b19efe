/* cc: -static -mavx; only x86_64
 * Signal frames keep the FP and vector state: x87, MXCSR, XMM, YMM; the frame's layout; the red zone. */
#include "../check.h"
#include <immintrin.h>
#include <ucontext.h>

static volatile int runs;

static void clobber(int signo, siginfo_t *info, void *context)
{
    (void)signo, (void)info;
    ucontext_t *frame = context;
    __asm__ volatile("vpcmpeqd %%ymm0, %%ymm0, %%ymm0; vmovdqa %%ymm0, %%ymm1; vmovdqa %%ymm0, %%ymm15;"
                     "fninit; fld1; fld1; fld1" ::: "memory", "xmm0", "xmm1", "xmm15");
    unsigned mxcsr = 0x5f80;
    __asm__ volatile("ldmxcsr %0" ::"m"(mxcsr));
    volatile char below[512];
    memset((char *)below, 0x5a, sizeof below);
    runs += frame->uc_mcontext.fpregs != NULL;
}

static void vectors(void)
{
    __m256i in[2], out[2];
    for (int i = 0; i < 8; i++)
        ((int *)in)[i] = i + 1, ((int *)in)[i + 8] = -i;
    pid_t me = getpid();
    long result = SYS_kill;
    __asm__ volatile("vmovdqu (%1), %%ymm1; vmovdqu 32(%1), %%ymm15; syscall; vmovdqu %%ymm1, (%2); vmovdqu %%ymm15, 32(%2)"
                     : "+a"(result)
                     : "r"(in), "r"(out), "D"((long)me), "S"((long)SIGUSR1)
                     : "rcx", "r11", "memory", "xmm1", "xmm15");
    CHECK("the signal came", runs == 1 && result == 0);
    CHECK("YMM registers survive a handler", memcmp(in, out, sizeof in) == 0);
}

static void control_words(void)
{
    unsigned mxcsr = 0x3f80, after = 0;
    unsigned short word = 0x27f, word_after = 0;
    double kept = 0;
    __asm__ volatile("ldmxcsr %0; fldcw %1; fldpi" ::"m"(mxcsr), "m"(word));
    raise(SIGUSR1);
    __asm__ volatile("stmxcsr %0; fnstcw %1; fstpl %2" : "=m"(after), "=m"(word_after), "=m"(kept));
    CHECK_EQ("MXCSR", after & ~0x3fu, 0x3f80);
    CHECK_EQ("x87 control word", word_after, 0x27f);
    CHECK("x87 stack", kept > 3.14159 && kept < 3.1416);
    mxcsr = 0x1f80, word = 0x37f;
    __asm__ volatile("ldmxcsr %0; fldcw %1" ::"m"(mxcsr), "m"(word));
}

static void red_zone(void)
{
    long result, pid = getpid();
    bool good = false;
    __asm__ volatile("movq $0x1234, -8(%%rsp); movq $0x5678, -128(%%rsp); syscall;"
                     "cmpq $0x1234, -8(%%rsp); sete %1; cmpq $0x5678, -128(%%rsp); sete %%cl; and %%cl, %1"
                     : "=a"(result), "=&b"(good)
                     : "a"(SYS_kill), "D"(pid), "S"(SIGUSR1)
                     : "rcx", "r11", "memory", "cc");
    CHECK("128 bytes below the stack pointer survive", good);
}

static volatile bool aligned, layout, flags_kept;

static void examine(int signo, siginfo_t *info, void *context)
{
    ucontext_t *frame = context;
    uintptr_t here = (uintptr_t)__builtin_frame_address(0);
    aligned = here % 16 == 0;
    layout = (uintptr_t)frame < (uintptr_t)info && info->si_signo == signo &&
             (uintptr_t)frame->uc_mcontext.fpregs % 64 == 0 && frame->uc_mcontext.fpregs->mxcsr == 0x1f80;
    unsigned *magic = (unsigned *)((char *)frame->uc_mcontext.fpregs + 464);
    unsigned size = magic[1], *end = (unsigned *)((char *)frame->uc_mcontext.fpregs + size - 4);
    flags_kept = magic[0] == 0x46505853 && *end == 0x46505845 && (frame->uc_flags & 1);
    frame->uc_mcontext.fpregs->_xmm[2].element[0] = 0xabcd;
}

static void layouts(void)
{
    catch_with(SIGUSR2, examine, 0);
    raise(SIGUSR2);
    CHECK("handler's stack alignment", aligned);
    CHECK("ucontext, siginfo and FP state in their order", layout);
    CHECK("the FP state's magic numbers", flags_kept);
    unsigned got = 0;
    long result = SYS_kill;
    __asm__ volatile("pxor %%xmm2, %%xmm2; syscall; movd %%xmm2, %1"
                     : "+a"(result), "=r"(got)
                     : "D"((long)getpid()), "S"((long)SIGUSR2)
                     : "rcx", "r11", "memory", "xmm2");
    CHECK_EQ("changes to the saved XMM take effect", got, 0xabcd);
}

static void on_alarm(int signo, siginfo_t *info, void *context)
{
    clobber(signo, info, context);
}

static void asynchronous(void)
{
    catch_with(SIGVTALRM, on_alarm, SA_RESTART);
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGVTALRM};
    timer_create(CLOCK_MONOTONIC, &event, &timer);
    struct itimerspec every = {{0, 2000000}, {0, 2000000}};
    timer_settime(timer, 0, &every, NULL);
    runs = 0;
    bool good = true;
    while (runs < 20) {
        double sum = 0;
        for (int i = 1; i < 2000; i++)
            sum += 1.0 / i;
        good &= sum > 8.1776 && sum < 8.1781;
    }
    timer_delete(timer);
    CHECK("arithmetic goes on under 20 signals", good);
}

enum { HEADER, SEGMENT, PLACE };
static volatile int damage, mended;
static void *volatile interrupted;

/* Make the frame one that cannot be returned to. */
static void damaging(int signo, siginfo_t *info, void *context)
{
    (void)signo, (void)info;
    ucontext_t *frame = context;
    greg_t *regs = frame->uc_mcontext.gregs;
    interrupted = (void *)regs[REG_RIP];
    if (damage == HEADER)
        memset((char *)frame->uc_mcontext.fpregs + 512 + 16, 0xff, 48);
    if (damage == SEGMENT)
        regs[REG_CSGSFS] = (regs[REG_CSGSFS] & ~0xffffll) | 0x47;
    if (damage == PLACE)
        regs[REG_RIP] = 0x4000000000000000;
}

static void mending(int signo, siginfo_t *info, void *context)
{
    (void)signo;
    greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
    if (mended++)
        _exit(1); /* it did not help */
    mended += damage == HEADER && (void *)regs[REG_RIP] != interrupted;
    mended += info->si_code != SI_KERNEL;
    if (damage == SEGMENT)
        regs[REG_CSGSFS] = (regs[REG_CSGSFS] & ~0xffffll) | 0x33;
    regs[REG_RIP] = (greg_t)interrupted;
}

static void false_frames(void)
{
    static const char *const names[] = {"a false xsave header", "a false code segment", "no place of user space"};
    catch_with(SIGUSR2, damaging, 0);
    catch_with(SIGSEGV, mending, 0);
    for (damage = HEADER; damage <= PLACE; damage++) {
        mended = 0;
        kill(getpid(), SIGUSR2);
        CHECK_EQ(names[damage], mended, 1);
        sigset_t now;
        sigprocmask(SIG_BLOCK, NULL, &now);
        CHECK("the mask is the old one", !sigismember(&now, SIGUSR2) && !sigismember(&now, SIGSEGV));
    }
    signal(SIGSEGV, SIG_DFL);
}

int main(void)
{
    catch_with(SIGUSR1, clobber, 0);
    vectors();
    control_words();
    red_zone();
    layouts();
    asynchronous();
    false_frames();
    return finish();
}
