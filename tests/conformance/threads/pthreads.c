/* cc: -pthread
 * POSIX threads on top of clone(2), futex(2), TLS: join, mutexes, conditions, barriers, semaphores, once, cancel. */
#include "../check.h"
#include <pthread.h>
#include <semaphore.h>

#define THREADS 4
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static pthread_barrier_t barrier;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static sem_t semaphore;
static long counter, turn, serial;
static _Thread_local long local = 5;

static void *count(void *arg)
{
    for (int i = 0; i < 20000; i++) {
        pthread_mutex_lock(&mutex);
        counter++;
        pthread_mutex_unlock(&mutex);
    }
    local += (long)arg;
    return (void *)local;
}

static void start(pthread_t *threads, void *(*body)(void *))
{
    for (long i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, body, (void *)i);
}

static long join(pthread_t *threads)
{
    long sum = 0;
    for (int i = 0; i < THREADS; i++) {
        void *result;
        pthread_join(threads[i], &result);
        sum += (long)result;
    }
    return sum;
}

static void *in_turn(void *arg)
{
    for (int round = 0; round < 50; round++) {
        pthread_mutex_lock(&mutex);
        while (turn % THREADS != (long)arg)
            pthread_cond_wait(&condition, &mutex);
        turn++;
        pthread_cond_broadcast(&condition);
        pthread_mutex_unlock(&mutex);
    }
    return NULL;
}

static void *meet(void *arg)
{
    (void)arg;
    for (int i = 0; i < 50; i++)
        if (pthread_barrier_wait(&barrier) == PTHREAD_BARRIER_SERIAL_THREAD)
            __atomic_add_fetch(&serial, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

static void *share(void *arg)
{
    for (int i = 0; i < 500; i++) {
        if (arg) {
            pthread_rwlock_rdlock(&rwlock);
        } else {
            pthread_rwlock_wrlock(&rwlock);
            counter++;
        }
        pthread_rwlock_unlock(&rwlock);
    }
    return NULL;
}

static void *post(void *arg)
{
    for (int i = 0; i < 100; i++)
        sem_post(&semaphore);
    return arg;
}

static void cleanup(void *arg)
{
    *(int *)arg = 9;
}

static void *waits_for_ever(void *arg)
{
    pthread_cleanup_push(cleanup, arg);
    for (;;)
        pause();
    pthread_cleanup_pop(0);
    return NULL;
}

static void *owner_dies(void *arg)
{
    pthread_mutex_lock(arg);
    return NULL;
}

int main(void)
{
    pthread_t threads[THREADS];
    start(threads, count);
    CHECK_EQ("thread-local results", join(threads), 4 * 5 + 6);
    CHECK_EQ("mutex", counter, 20000 * THREADS);
    CHECK_EQ("thread-local storage", local, 5);
    start(threads, in_turn);
    join(threads);
    CHECK_EQ("condition variable", turn, 50 * THREADS);
    pthread_barrier_init(&barrier, NULL, THREADS);
    start(threads, meet);
    join(threads);
    CHECK_EQ("barrier", serial, 50);
    counter = 0;
    start(threads, share);
    join(threads);
    CHECK_EQ("read-write lock", counter, 500);
    sem_init(&semaphore, 0, 0);
    start(threads, post);
    for (int i = 0; i < 100 * THREADS; i++)
        sem_wait(&semaphore);
    join(threads);
    CHECK_ERRNO("semaphore", sem_trywait(&semaphore), EAGAIN);
    struct timespec soon;
    clock_gettime(CLOCK_REALTIME, &soon);
    soon.tv_nsec = (soon.tv_nsec + 2000000) % 1000000000;
    CHECK_ERRNO("timed wait", sem_timedwait(&semaphore, &soon), ETIMEDOUT);
    int cleaned = 0;
    void *result;
    pthread_create(&threads[0], NULL, waits_for_ever, &cleaned);
    sleep_ms(2);
    pthread_cancel(threads[0]);
    pthread_join(threads[0], &result);
    CHECK("cancel", result == PTHREAD_CANCELED && cleaned == 9);
    pthread_mutexattr_t kind;
    pthread_mutexattr_init(&kind);
    pthread_mutexattr_setrobust(&kind, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_t robust;
    pthread_mutex_init(&robust, &kind);
    pthread_create(&threads[0], NULL, owner_dies, &robust);
    pthread_join(threads[0], NULL);
    CHECK_EQ("robust mutex of a dead owner", pthread_mutex_lock(&robust), EOWNERDEAD);
    pthread_mutex_consistent(&robust), pthread_mutex_unlock(&robust);
    pthread_mutexattr_setprotocol(&kind, PTHREAD_PRIO_INHERIT);
    pthread_mutex_t inherit;
    CHECK_EQ("priority inheritance", pthread_mutex_init(&inherit, &kind) + pthread_mutex_lock(&inherit), 0);
    pthread_mutex_unlock(&inherit);
    pthread_mutexattr_setpshared(&kind, PTHREAD_PROCESS_SHARED);
    return finish();
}
