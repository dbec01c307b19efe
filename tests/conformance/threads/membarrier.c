/* cc: -static -pthread
 * membarrier(2): what it knows, who must register, and restartable sequences that it ends. */
#include "../check.h"
#include "sections.h"
#include <linux/membarrier.h>
#include <pthread.h>

static volatile int inside, aborted;
static uintptr_t abort_handler;

static long membarrier(int cmd, unsigned flags, int cpu)
{
    return syscall(SYS_membarrier, cmd, flags, cpu);
}

static void commands(void)
{
    long known = membarrier(MEMBARRIER_CMD_QUERY, 0, 0);
    long wanted = MEMBARRIER_CMD_GLOBAL | MEMBARRIER_CMD_GLOBAL_EXPEDITED | MEMBARRIER_CMD_PRIVATE_EXPEDITED
        | MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE | MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ;
    CHECK_EQ("query", known & wanted, wanted);
    CHECK_EQ("global", membarrier(MEMBARRIER_CMD_GLOBAL, 0, 0), 0);
    CHECK_EQ("global expedited needs no registration", membarrier(MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0, 0), 0);
    CHECK_ERRNO("private does", membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0), EPERM);
    CHECK_ERRNO("sync core does", membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0), EPERM);
    CHECK_ERRNO("rseq does", membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ, 0, 0), EPERM);
    CHECK_EQ("register", membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0), 0);
    CHECK_EQ("register", membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ, 0, 0), 0);
    CHECK_EQ("private", membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0), 0);
    CHECK_EQ("rseq", membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ, 0, 0), 0);
    CHECK_EQ("rseq on one CPU", membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ, 1, 0), 0);
    CHECK_EQ("on a CPU that is none", membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ, 1, 100000), 0);
    CHECK_ERRNO("flag without rseq", membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED, 1, 0), EINVAL);
    CHECK_ERRNO("unknown flag", membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ, 2, 0), EINVAL);
    CHECK_ERRNO("unknown command", membarrier(1 << 20, 0, 0), EINVAL);
    CHECK_ERRNO("two commands", membarrier(3, 0, 0), EINVAL);
}

static void *spins(void *arg)
{
    struct rseq *area = registered_area();
    /* it may be ended by chance: go on until the other thread has asked */
    SECTION("spins", RSEQ_SIG, aborted, abort_handler, *(uint64_t *)&area->rseq_cs, inside, *(volatile int *)arg);
    return NULL;
}

static void sequences(void)
{
    volatile int asked = 0;
    pthread_t thread;
    pthread_create(&thread, NULL, spins, (void *)&asked);
    while (!inside)
        sched_yield();
    asked = 1;
    CHECK_EQ("end the others' sequences", membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ, 0, 0), 0);
    pthread_join(thread, NULL);
    CHECK("it was ended", aborted >= 1);
}

int main(void)
{
    commands();
    sequences();
    return finish();
}
