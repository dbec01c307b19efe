/* cc: -static -pthread
 * The kernel changes words of user memory atomically, against code that runs on another CPU at the same moment: locks with
 * an owner, FUTEX_WAKE_OP. */
#include "../check.h"
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>

enum { ROUNDS = 20000, ADDED = 20000, SPELL_NS = 1500000000 };
static unsigned lock, word, unused;
static volatile unsigned guarded;
static volatile int failed, stop;

static long futex(unsigned *at, int operation, unsigned value, unsigned long value2, unsigned *at2, unsigned value3)
{
    return syscall(SYS_futex, at, operation | FUTEX_PRIVATE_FLAG, value, value2, at2, value3);
}

static bool swap(unsigned *at, unsigned old, unsigned new)
{
    return __atomic_compare_exchange_n(at, &old, new, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

/* Take and give back the lock as a library does: in user space while nobody waits, else in the kernel. */
static void *contend(void *unused_argument)
{
    (void)unused_argument;
    unsigned tid = (unsigned)syscall(SYS_gettid);
    int64_t end = now_ns(CLOCK_MONOTONIC) + SPELL_NS;
    for (int i = 0; i < ROUNDS && !failed && now_ns(CLOCK_MONOTONIC) < end; i++) {
        if (!swap(&lock, 0, tid) && futex(&lock, FUTEX_LOCK_PI, 0, 0, NULL, 0) != 0)
            failed = errno;
        unsigned before = ++guarded;
        for (int j = 0; j < i % 50; j++)
            __asm__ volatile("" ::: "memory");
        if (guarded != before)
            failed = -1;
        if (!swap(&lock, tid, 0) && futex(&lock, FUTEX_UNLOCK_PI, 0, 0, NULL, 0) != 0)
            failed = errno;
    }
    return NULL;
}

static void owned(void)
{
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        pthread_create(&threads[i], NULL, contend, NULL);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    CHECK_EQ("a lock that is given back in user space while others come to wait", failed, 0);
    CHECK_EQ("is free in the end", lock & FUTEX_TID_MASK, 0);
}

static volatile int pause_length;

static void *count_up(void *added)
{
    while (!stop) {
        __atomic_fetch_add(&word, 0x10000, __ATOMIC_RELAXED), ++*(unsigned *)added;
        for (int j = 0; j < pause_length; j++) /* a kernel that does it in two steps gets between them */
            __asm__ volatile("" ::: "memory");
    }
    return NULL;
}

static void counted(const char *name, int length)
{
    pthread_t thread;
    unsigned added = 0, ours = 0;
    stop = 0, word = 0, pause_length = length;
    pthread_create(&thread, NULL, count_up, &added);
    int64_t end = now_ns(CLOCK_MONOTONIC) + SPELL_NS;
    for (; ours < ADDED && now_ns(CLOCK_MONOTONIC) < end; ours++)
        futex(&unused, FUTEX_WAKE_OP, 1, 1, &word, FUTEX_OP(FUTEX_OP_ADD, 1, FUTEX_OP_CMP_EQ, 0));
    stop = 1;
    pthread_join(thread, NULL);
    CHECK(name, word == (added << 16) + ours);
}

static void *toggle(void *unused_argument)
{
    (void)unused_argument;
    while (!stop)
        __atomic_fetch_xor(&lock, FUTEX_OWNER_DIED, __ATOMIC_RELAXED);
    return NULL;
}

/* A lock's word that never holds still can keep nobody in the kernel. */
static void restless(void)
{
    pthread_t thread;
    lock = 0, stop = 0;
    pthread_create(&thread, NULL, toggle, NULL);
    for (int i = 0; i < 20; i++) {
        futex(&lock, FUTEX_TRYLOCK_PI, 0, 0, NULL, 0);
        futex(&lock, FUTEX_UNLOCK_PI, 0, 0, NULL, 0);
    }
    stop = 1;
    pthread_join(thread, NULL);
    CHECK("a restless word", true);
}

int main(void)
{
    owned();
    counted("no addition is lost on either side", 500);
    counted("nor when there is no time between those of the other side", 0);
    restless();
    return finish();
}
