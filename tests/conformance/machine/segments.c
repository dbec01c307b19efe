/* cc: -static -pthread; only x86_64
 * FS and GS base: arch_prctl(2), FSGSBASE instructions, selectors, threads with bases of their own. */
#include "../check.h"
#include <asm/prctl.h>
#include <pthread.h>
#include <sys/auxv.h>

static long prctl_arch(int code, unsigned long address)
{
    return syscall(SYS_arch_prctl, code, address);
}

static uint64_t words[8];

static uint64_t by_gs(void)
{
    uint64_t value;
    __asm__ volatile("mov %%gs:8, %0" : "=r"(value));
    return value;
}

static void bases(void)
{
    uint64_t fs = 0, gs = 1, self;
    CHECK_EQ("ARCH_GET_FS", prctl_arch(ARCH_GET_FS, (unsigned long)&fs), 0);
    __asm__ volatile("mov %%fs:0, %0" : "=r"(self));
    CHECK("FS base is the thread's pointer to itself", fs == self);
    CHECK("GS base is 0", prctl_arch(ARCH_GET_GS, (unsigned long)&gs) == 0 && gs == 0);
    words[1] = 4711;
    CHECK_EQ("ARCH_SET_GS", prctl_arch(ARCH_SET_GS, (unsigned long)words), 0);
    CHECK_EQ("reads by GS", by_gs(), 4711);
    sleep_ms(1);
    CHECK_EQ("GS base survives a sleep", by_gs(), 4711);
    CHECK_ERRNO("a kernel address", prctl_arch(ARCH_SET_GS, 0xffff800000000000), EPERM);
    CHECK_ERRNO("bad pointer", prctl_arch(ARCH_GET_GS, 8), EFAULT);
    CHECK_ERRNO("bad code", prctl_arch(0x9999, 0), EINVAL);
}

static void instructions(void)
{
    if (!(getauxval(AT_HWCAP2) & 2)) {
        SKIP("FSGSBASE", "not offered");
        return;
    }
    uint64_t got = 0;
    __asm__ volatile("wrgsbase %0" ::"r"(words + 2));
    words[3] = 815;
    CHECK_EQ("wrgsbase", by_gs(), 815);
    getppid();
    CHECK_EQ("survives a system call", by_gs(), 815);
    sched_yield();
    sleep_ms(1);
    __asm__ volatile("rdgsbase %0" : "=r"(got));
    CHECK("rdgsbase", got == (uint64_t)(words + 2));
    CHECK("arch_prctl agrees", prctl_arch(ARCH_GET_GS, (unsigned long)&got) == 0 && got == (uint64_t)(words + 2));
    pid_t pid = fork();
    if (pid == 0)
        _exit(by_gs() == 815 ? 0 : 1);
    int status;
    waitpid(pid, &status, 0);
    CHECK("fork inherits it", exited(status, 0));
}

static volatile bool stop;

static void *own_base(void *arg)
{
    uint64_t mine[2] = {0, (uint64_t)arg};
    bool good = true;
    prctl_arch(ARCH_SET_GS, (unsigned long)mine);
    for (int i = 0; i < 200; i++) {
        good &= by_gs() == (uint64_t)arg;
        sched_yield();
        good &= by_gs() == (uint64_t)arg;
    }
    return (void *)(long)good;
}

static void selectors(void)
{
    unsigned short cs, ss, ds, es, fs, gs;
    __asm__ volatile("mov %%cs, %0; mov %%ss, %1; mov %%ds, %2; mov %%es, %3; mov %%fs, %4; mov %%gs, %5"
                     : "=r"(cs), "=r"(ss), "=r"(ds), "=r"(es), "=r"(fs), "=r"(gs));
    CHECK("selectors", cs == 0x33 && ss == 0x2b && ds == 0 && es == 0 && fs == 0 && gs == 0);
    (void)stop;
}

int main(void)
{
    bases();
    instructions();
    selectors();
    pthread_t threads[4];
    long good = 0;
    for (long i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, own_base, (void *)(i + 100));
    for (int i = 0; i < 4; i++) {
        void *result;
        pthread_join(threads[i], &result);
        good += (long)result;
    }
    CHECK_EQ("each thread has its own", good, 4);
    return finish();
}
