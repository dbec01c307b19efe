/* cc: -static -pthread -mavx; only x86_64
 * FP and vector registers across system calls, pre-emption, fork and threads on every CPU. */
#include "../check.h"
#include <pthread.h>

#define LOAD(n) "vmovdqu " #n "*32(%0), %%ymm" #n ";"
#define SAVE(n) "vmovdqu %%ymm" #n ", " #n "*32(%0);"
#define ALL(m) m(0) m(1) m(2) m(3) m(4) m(5) m(6) m(7) m(8) m(9) m(10) m(11) m(12) m(13) m(14) m(15)
#define REGISTERS                                                                                                      \
    "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12",        \
        "xmm13", "xmm14", "xmm15", "memory", "rcx", "r11", "rax"

typedef struct {
    uint32_t words[16][8];
} Vectors;

static void fill(Vectors *v, uint32_t seed)
{
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 8; j++)
            v->words[i][j] = seed * 2654435761u + (uint32_t)(i * 8 + j);
}

/* Load all, make `calls` times the system call, save all. */
static bool survives_call(uint32_t seed, long number)
{
    Vectors want, got;
    fill(&want, seed);
    got = want;
    register long nr __asm__("r12") = number;
    __asm__ volatile(ALL(LOAD) "mov %1, %%rax; xor %%edi, %%edi; xor %%esi, %%esi; syscall; vmovdqu %%ymm0, (%0);" ALL(SAVE)
                     : : "b"(&got), "r"(nr) : "rdi", "rsi", REGISTERS);
    return memcmp(&want, &got, sizeof want) == 0;
}

/* Load all, spin, save all: what is in between is pre-emption by the other threads. */
static bool survives_spin(uint32_t seed, long turns)
{
    Vectors want, got;
    fill(&want, seed);
    got = want;
    __asm__ volatile(ALL(LOAD) "mov %1, %%rcx; 1: dec %%rcx; jnz 1b;" ALL(SAVE) : : "b"(&got), "r"(turns) : REGISTERS);
    return memcmp(&want, &got, sizeof want) == 0;
}

static void *busy(void *arg)
{
    bool good = true;
    for (uint32_t i = 0; i < 12; i++) {
        good &= survives_spin((uint32_t)(long)arg * 100 + i, 3000000);
        good &= survives_call((uint32_t)(long)arg * 100 + i, SYS_sched_yield);
    }
    return (void *)(long)good;
}

static double series(int terms)
{
    double sum = 0;
    for (int i = 0; i < terms; i++)
        sum += (i % 2 ? -1.0 : 1.0) / (2 * i + 1);
    return 4 * sum;
}

static void *pi(void *arg)
{
    long double x87 = 0;
    for (int i = 1; i < 300000; i++)
        x87 += 1.0L / i;
    (void)arg;
    return (void *)(long)(series(1000000) == series(1000000) && x87 > 13.188L && x87 < 13.190L);
}

static long run(void *(*body)(void *), int count)
{
    pthread_t threads[8];
    long good = 0;
    for (long i = 0; i < count; i++)
        pthread_create(&threads[i], NULL, body, (void *)(i + 1));
    for (int i = 0; i < count; i++) {
        void *result;
        pthread_join(threads[i], &result);
        good += (long)result;
    }
    return good;
}

int main(void)
{
    CHECK("across getppid", survives_call(1, SYS_getppid));
    CHECK("across sched_yield", survives_call(2, SYS_sched_yield));
    CHECK("across an error", survives_call(3, 9999));
    CHECK_EQ("six threads on the CPUs of this machine", run(busy, 6), 6);
    CHECK_EQ("four that compute", run(pi, 4), 4);
    pid_t children[4];
    for (int i = 0; i < 4; i++)
        if ((children[i] = fork()) == 0)
            _exit(survives_spin((uint32_t)i, 5000000) && survives_call((uint32_t)i, SYS_getppid) ? 0 : 1);
    int status, good = 0;
    for (int i = 0; i < 4; i++)
        good += waitpid(children[i], &status, 0) > 0 && exited(status, 0);
    CHECK_EQ("four processes", good, 4);
    Vectors want, got;
    fill(&want, 9), got = want;
    long child;
    __asm__ volatile(ALL(LOAD) "mov $57, %%eax; syscall; mov %%rax, %1;" ALL(SAVE) : : "b"(&got), "m"(child) : REGISTERS);
    if (child == 0)
        _exit(memcmp(&want, &got, sizeof want) == 0 ? 0 : 1);
    waitpid((pid_t)child, &status, 0);
    CHECK("a child starts with its parent's", exited(status, 0) && memcmp(&want, &got, sizeof want) == 0);
    return finish();
}
