/* sections.h: restartable sequences on each architecture: the thread's area, and a critical section to spin in. */
#ifndef SECTIONS_H
#define SECTIONS_H
#include <stdint.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define STRING_(x) #x
#define STRING(x) STRING_(x)

/* A critical section's description, in memory of its own: [1, 2), and where to go when it is ended. */
#define DESCRIBE(label)                                                                                                \
    ".pushsection __rseq_cs, \"aw\"\n"                                                                                 \
    ".balign 32\n"                                                                                                     \
    "cs_" label ": .long 0, 0\n"                                                                                       \
    ".quad 1f, 2f - 1f, 4f\n"                                                                                          \
    ".popsection\n"

#ifdef __riscv
#ifndef RSEQ_SIG
#define RSEQ_SIG 0xf1401073 /* csrw mhartid, zero: illegal everywhere; the C library has none for this architecture */
#endif
#define PC_OF(context) ((uintptr_t)(context)->uc_mcontext.__gregs[REG_PC])
#define SECTION(label, signature, count, handler, pointer, inside, stop)                                               \
    __asm__ volatile(DESCRIBE(label)                                                                                   \
                     "lla t0, 4f\n"                                                                                    \
                     "sd t0, %1\n"                                                                                     \
                     "6: lla t0, cs_" label "\n"                                                                       \
                     "sd t0, %2\n"                                                                                     \
                     "1: li t0, 1\n"                                                                                   \
                     "sw t0, %3\n"                                                                                     \
                     "j 1b\n"                                                                                          \
                     "2: j 5f\n"                                                                                       \
                     ".long " STRING(signature) "\n"                                                                   \
                     "4: lw t0, %0\n"                                                                                  \
                     "addi t0, t0, 1\n"                                                                                \
                     "sw t0, %0\n"                                                                                     \
                     "lw t0, %4\n"                                                                                     \
                     "beqz t0, 6b\n"                                                                                   \
                     "5:\n"                                                                                            \
                     : "+m"(count), "=m"(handler), "+m"(pointer), "+m"(inside)                                         \
                     : "m"(stop)                                                                                       \
                     : "t0", "memory")
#else
#define PC_OF(context) ((uintptr_t)(context)->uc_mcontext.gregs[REG_RIP])
#define SECTION(label, signature, count, handler, pointer, inside, stop)                                               \
    __asm__ volatile(DESCRIBE(label)                                                                                   \
                     "leaq 4f(%%rip), %%rax\n"                                                                         \
                     "movq %%rax, %1\n"                                                                                \
                     "6: leaq cs_" label "(%%rip), %%rax\n"                                                            \
                     "movq %%rax, %2\n"                                                                                \
                     "1: movl $1, %3\n"                                                                                \
                     "pause\n"                                                                                         \
                     "jmp 1b\n"                                                                                        \
                     "2: jmp 5f\n"                                                                                     \
                     ".byte 0x0f, 0xb9, 0x3d\n"                                                                        \
                     ".long " STRING(signature) "\n"                                                                   \
                     "4: addl $1, %0\n"                                                                                \
                     "cmpl $0, %4\n"                                                                                   \
                     "je 6b\n"                                                                                         \
                     "5:\n"                                                                                            \
                     : "+m"(count), "=m"(handler), "+m"(pointer), "+m"(inside)                                         \
                     : "m"(stop)                                                                                       \
                     : "rax", "memory", "cc")
#endif

static __thread struct rseq own_area __attribute__((aligned(32)));

/* This thread's area: the one that the C library has registered, or, where it does not, its own. NULL if that is refused. */
static struct rseq *registered_area(void)
{
    if (__rseq_size > 0)
        return (struct rseq *)((char *)__builtin_thread_pointer() + __rseq_offset);
    return syscall(SYS_rseq, &own_area, 32, 0, RSEQ_SIG) == 0 ? &own_area : NULL;
}
#endif
