/* cc: -pthread
 * futex(2), the rarer half: priority-inheritance locks, requeueing to them, futex_waitv(2), and the errors of all.
 */
#include "../check.h"
#include <linux/futex.h>
#include <pthread.h>

static uint32_t word __attribute__((aligned(8))), target __attribute__((aligned(8)));

static long futex(uint32_t *at, int op, uint32_t value, const struct timespec *time, uint32_t *at2, uint32_t value3)
{
    return syscall(SYS_futex, at, op, value, time, at2, value3);
}

static uint32_t tid(void)
{
    return (uint32_t)syscall(SYS_gettid);
}

static volatile uint32_t other;
static volatile long result;
static volatile int error;

static void wait_for_sleeper(void)
{
    while (!other)
        sleep_ms(1);
    until_asleep((pid_t)other);
}

static void *lock_it(void *arg)
{
    (void)arg;
    other = tid();
    result = futex(&word, FUTEX_LOCK_PI, 0, NULL, NULL, 0);
    error = errno;
    if (result == 0)
        futex(&word, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0);
    return NULL;
}

static void *hold_it(void *arg)
{
    futex(&word, FUTEX_LOCK_PI, 0, NULL, NULL, 0);
    other = tid();
    futex(&target, FUTEX_WAIT, 0, NULL, NULL, 0);
    futex(&word, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0);
    return arg;
}

static void locks(void)
{
    pthread_t thread;
    struct timespec past = {1, 0}, bad = {1, -1};
    CHECK_EQ("lock", futex(&word, FUTEX_LOCK_PI, 0, NULL, NULL, 0), 0);
    CHECK_EQ("its owner", word, tid());
    CHECK_ERRNO("lock twice", futex(&word, FUTEX_LOCK_PI, 0, NULL, NULL, 0), EDEADLK);
    CHECK_ERRNO("try what is mine", futex(&word, FUTEX_TRYLOCK_PI, 0, NULL, NULL, 0), EDEADLK);
    other = 0;
    pthread_create(&thread, NULL, lock_it, NULL);
    wait_for_sleeper();
    CHECK_EQ("somebody waits", word, tid() | FUTEX_WAITERS);
    CHECK_EQ("unlock", futex(&word, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0), 0);
    pthread_join(thread, NULL);
    CHECK_EQ("the other had it", result, 0);
    CHECK_EQ("free", word, 0);
    CHECK_ERRNO("unlock what is not mine", futex(&word, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0), EPERM);
    word = 0x3fffffff;
    CHECK_ERRNO("an owner that is not", futex(&word, FUTEX_LOCK_PI, 0, NULL, NULL, 0), ESRCH);
    word = 0;
    CHECK_ERRNO("bad time", futex(&word, FUTEX_LOCK_PI, 0, &bad, NULL, 0), EINVAL);
    other = 0;
    pthread_create(&thread, NULL, hold_it, NULL);
    wait_for_sleeper();
    CHECK_ERRNO("another's, in time", futex(&word, FUTEX_LOCK_PI, 0, &past, NULL, 0), ETIMEDOUT);
    CHECK_ERRNO("another's, now", futex(&word, FUTEX_TRYLOCK_PI, 0, NULL, NULL, 0), EAGAIN);
    futex(&target, FUTEX_WAKE, 1, NULL, NULL, 0);
    pthread_join(thread, NULL);
    CHECK_ERRNO("not aligned", futex((uint32_t *)((char *)&word + 1), FUTEX_LOCK_PI, 0, NULL, NULL, 0), EINVAL);
    CHECK_ERRNO("no memory", futex((uint32_t *)8, FUTEX_LOCK_PI, 0, NULL, NULL, 0), EFAULT);
    CHECK_ERRNO("realtime clock has no meaning here", futex(&word, FUTEX_WAKE | FUTEX_CLOCK_REALTIME, 1, NULL, NULL, 0), ENOSYS);
}

static void *wait_to_be_moved(void *arg)
{
    (void)arg;
    other = tid();
    result = futex(&word, FUTEX_WAIT_REQUEUE_PI, 0, NULL, &target, 0);
    error = errno;
    if (result == 0)
        futex(&target, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0);
    return NULL;
}

static void requeueing(void)
{
    pthread_t thread;
    word = target = 0;
    other = 0;
    pthread_create(&thread, NULL, wait_to_be_moved, NULL);
    wait_for_sleeper();
    CHECK_EQ("lock the target", futex(&target, FUTEX_LOCK_PI, 0, NULL, NULL, 0), 0);
    CHECK_ERRNO("the value differs", futex(&word, FUTEX_CMP_REQUEUE_PI, 1, (void *)1, &target, 7), EAGAIN);
    CHECK_ERRNO("wakes exactly one", futex(&word, FUTEX_CMP_REQUEUE_PI, 2, (void *)1, &target, 0), EINVAL);
    CHECK_ERRNO("onto itself", futex(&word, FUTEX_CMP_REQUEUE_PI, 1, (void *)1, &word, 0), EINVAL);
    CHECK_EQ("move it", futex(&word, FUTEX_CMP_REQUEUE_PI, 1, (void *)1, &target, 0), 1);
    CHECK_EQ("it waits there", target, tid() | FUTEX_WAITERS);
    CHECK_EQ("unlock", futex(&target, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0), 0);
    pthread_join(thread, NULL);
    CHECK_EQ("it had the lock", result, 0);
    CHECK_ERRNO("a plain wake finds nobody to move", futex(&word, FUTEX_WAIT_REQUEUE_PI, 1, NULL, &target, 0), EAGAIN);
}

static uint32_t words[3];

static void *wake_second(void *arg)
{
    until_asleep(getpid());
    words[1] = 1;
    while (futex(&words[1], FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1, NULL, NULL, 0) == 0)
        sleep_ms(1);
    return arg;
}

static long waitv(struct futex_waitv *list, unsigned count, unsigned flags, struct timespec *time, int clock)
{
    return syscall(SYS_futex_waitv, list, count, flags, time, clock);
}

static void several(void)
{
    struct futex_waitv list[3];
    for (int i = 0; i < 3; i++)
        list[i] = (struct futex_waitv){.uaddr = (uintptr_t)&words[i], .flags = FUTEX_32 | FUTEX_PRIVATE_FLAG};
    pthread_t thread;
    pthread_create(&thread, NULL, wake_second, NULL);
    CHECK_EQ("which one woke", waitv(list, 3, 0, NULL, 0), 1);
    pthread_join(thread, NULL);
    CHECK_ERRNO("one differs", waitv(list, 3, 0, NULL, 0), EAGAIN);
    struct timespec past = {1, 0}, bad = {0, 1000000000};
    CHECK_ERRNO("time-out", waitv(list, 1, 0, &past, CLOCK_MONOTONIC), ETIMEDOUT);
    CHECK_ERRNO("bad time", waitv(list, 1, 0, &bad, CLOCK_MONOTONIC), EINVAL);
    CHECK_ERRNO("bad clock", waitv(list, 1, 0, &past, CLOCK_BOOTTIME), EINVAL);
    CHECK_ERRNO("none", waitv(list, 0, 0, NULL, 0), EINVAL);
    CHECK_ERRNO("too many", waitv(list, 129, 0, NULL, 0), EINVAL);
    CHECK_ERRNO("flags", waitv(list, 1, 1, NULL, 0), EINVAL);
    list[0].__reserved = 1;
    CHECK_ERRNO("reserved", waitv(list, 1, 0, NULL, 0), EINVAL);
    list[0].__reserved = 0, list[0].flags = 0;
    CHECK_ERRNO("no size", waitv(list, 1, 0, NULL, 0), EINVAL);
    CHECK_ERRNO("bad list", waitv((void *)8, 1, 0, NULL, 0), EFAULT);
}

int main(void)
{
    locks();
    requeueing();
    several();
    return finish();
}
