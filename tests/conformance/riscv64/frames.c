/* cc: -static -funwind-tables; only riscv64
 * Signal frames: where the handler finds what, where it returns to, and that every register is kept or changed through it. */
#include "../check.h"
#include <sys/auxv.h>
#include <ucontext.h>
#include <unwind.h>

static volatile bool aligned, returns_to_the_call, layout, through;
static volatile int runs, depth;

__attribute__((noinline)) static void raise_it(int signo)
{
    raise(signo);
    __asm__ volatile("");
}

static _Unwind_Reason_Code unwound(struct _Unwind_Context *context, void *unused)
{
    (void)unused;
    depth++;
    through |= _Unwind_FindEnclosingFunction((void *)_Unwind_GetIP(context)) == (void *)raise_it;
    return depth < 32 ? _URC_NO_REASON : _URC_END_OF_STACK;
}

__attribute__((noinline)) static void examine(int signo, siginfo_t *info, void *context)
{
    ucontext_t *frame = context;
    uint32_t *back = __builtin_return_address(0);
    uintptr_t here = (uintptr_t)__builtin_frame_address(0);
    aligned = here % 16 == 0;
    returns_to_the_call = back[0] == 0x08b00893 && back[1] == 0x00000073; /* li a7, SYS_rt_sigreturn; ecall */
    layout = (char *)frame - (char *)info == 128 && info->si_signo == signo && frame->__uc_flags == 0 && frame->uc_link == NULL;
    depth = 0;
    _Unwind_Backtrace(unwound, NULL);
}

static void layouts(void)
{
    catch_with(SIGUSR2, examine, 0);
    raise_it(SIGUSR2);
    CHECK("handler's stack alignment", aligned);
    CHECK("it returns to rt_sigreturn", returns_to_the_call);
    CHECK("siginfo, then ucontext", layout);
    CHECK("unwinding goes through the frame", through);
}

static void clobber(int signo, siginfo_t *info, void *context)
{
    (void)signo, (void)info;
    ucontext_t *frame = context;
    __asm__ volatile("li t0, -1\nfmv.d.x fs0, t0\nfmv.d.x fa1, t0\nli t1, 5\nli t2, 6\nli s2, 7\nfsrm t1, x0\nfsflags x0\n" ::
                         : "t0", "t1", "t2", "s2", "fs0", "fa1");
    frame->uc_mcontext.__gregs[19] = 0x5a5a; /* s3 */
    frame->uc_mcontext.__fpregs.__d.__f[12] = 0x3ff0000000000000; /* fa2 = 1.0 */
    runs++;
}

/* kill(getpid(), SIGUSR1), with values in registers around it. */
static void registers(void)
{
    uint64_t out[8] = {0};
    catch_with(SIGUSR1, clobber, 0);
    register long a0 __asm__("a0") = getpid();
    register long a1 __asm__("a1") = SIGUSR1;
    register long a7 __asm__("a7") = SYS_kill;
    register uint64_t *where __asm__("s5") = out;
    __asm__ volatile("li t0, 0x123\nfmv.d.x fs0, t0\nli t0, 0x456\nfmv.d.x fa1, t0\nfmv.d.x fa2, zero\n"
                     "li t1, 0x77\nli t2, 0x88\nli s2, 0x99\nli s3, 0xaa\n"
                     "fsrmi 2\nfsflagsi 9\n"
                     "ecall\n"
                     "fmv.x.d t0, fs0\nsd t0, 0(s5)\nfmv.x.d t0, fa1\nsd t0, 8(s5)\nfmv.x.d t0, fa2\nsd t0, 16(s5)\n"
                     "sd t1, 24(s5)\nsd t2, 32(s5)\nsd s2, 40(s5)\nsd s3, 48(s5)\nfrcsr t0\nsd t0, 56(s5)\nfscsr zero\n"
                     : "+r"(a0)
                     : "r"(a1), "r"(a7), "r"(where)
                     : "t0", "t1", "t2", "s2", "s3", "fs0", "fa1", "fa2", "memory");
    CHECK("the signal came", runs == 1 && a0 == 0);
    CHECK("floating-point registers survive a handler", out[0] == 0x123 && out[1] == 0x456);
    CHECK("temporaries and saved registers too", out[3] == 0x77 && out[4] == 0x88 && out[5] == 0x99);
    CHECK_EQ("rounding mode and flags", out[7], 2 << 5 | 9);
    CHECK("changes to the saved registers take effect", out[6] == 0x5a5a && out[2] == 0x3ff0000000000000);
}

/* Every register but a0 is what it was after a system call. */
static void calls(void)
{
    uint64_t kept = 0;
    register long a0 __asm__("a0") = 1;
    register long a7 __asm__("a7") = SYS_getppid;
    __asm__ volatile("li t0, 1\nli t1, 2\nli t2, 3\nli t3, 4\nli t4, 5\nli t5, 6\nli t6, 7\nli a1, 8\nli a2, 9\nli a3, 10\n"
                     "li a4, 11\nli a5, 12\nli a6, 13\necall\n"
                     "slli t0, t0, 1\nxor t0, t0, t1\nxor t0, t0, t2\nxor t0, t0, t3\nxor t0, t0, t4\nxor t0, t0, t5\n"
                     "xor t0, t0, t6\nxor t0, t0, a1\nxor t0, t0, a2\nxor t0, t0, a3\nxor t0, t0, a4\nxor t0, t0, a5\n"
                     "xor t0, t0, a6\nmv %1, t0\n"
                     : "+r"(a0), "=r"(kept)
                     : "r"(a7)
                     : "t0", "t1", "t2", "t3", "t4", "t5", "t6", "a1", "a2", "a3", "a4", "a5", "a6", "memory");
    uint64_t want = 2;
    for (uint64_t n = 2; n <= 13; n++)
        want ^= n;
    CHECK("a system call changes a0 only", kept == want && a0 == getppid());
    CHECK_ERRNO("a number there is no call for", syscall(4000), ENOSYS);
    CHECK("the kernel tells what the CPU has", (getauxval(AT_HWCAP) & 0x112d) == 0x112d);
    CHECK("there is no AT_PLATFORM", getauxval(AT_PLATFORM) == 0);
}

static void new_code(void)
{
    uint32_t *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int (*function)(void) = (int (*)(void))page;
    bool good = true;
    for (unsigned i = 1; i < 5; i++) {
        page[0] = i << 20 | 0x513; /* li a0, i */
        page[1] = 0x8067;          /* ret */
        good &= syscall(SYS_riscv_flush_icache, page, page + 2, i & 1) == 0;
        good &= function() == (int)i;
    }
    CHECK("new code runs after riscv_flush_icache", good);
    page[0] = 9 << 20 | 0x513;
    __asm__ volatile("fence.i" ::: "memory");
    CHECK_EQ("and after fence.i", function(), 9);
}

int main(void)
{
    layouts();
    registers();
    calls();
    new_code();
    return finish();
}
