/* cc: -pthread
 * futex(2), priority inheritance: what owners of locks are lent, along chains; who is next; inversion; dying owners.
 */
#include "../check.h"
#include <linux/futex.h>
#include <pthread.h>

enum { LOCKS = 4, THREADS = 6 };
static uint32_t locks[LOCKS], gate, order[THREADS + 1], count;

static long futex(uint32_t *at, int op, uint32_t value, const struct timespec *time, uint32_t *at2, uint32_t value3)
{
    return syscall(SYS_futex, at, op | FUTEX_PRIVATE_FLAG, value, time, at2, value3);
}

static uint32_t tid(void)
{
    return (uint32_t)syscall(SYS_gettid);
}

/* The priority of a thread as the kernel schedules it: 20 is a nice value of 0, -1 - N is real-time priority N. */
static int rank_of(uint32_t thread)
{
    char path[64], text[512];
    int rank = 1000;
    snprintf(path, sizeof path, "/proc/self/task/%u/stat", thread);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = read(fd, text, sizeof text - 1);
    close(fd);
    if (length > 0) {
        text[length] = 0;
        sscanf(strrchr(text, ')') + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %d", &rank);
    }
    return rank;
}

static void set(uint32_t thread, int priority)
{
    sched_setscheduler((pid_t)thread, priority ? SCHED_FIFO : SCHED_OTHER, &(struct sched_param){priority});
}

struct job {
    int priority, own, want; /* a lock to take first, or -1; a lock to wait for, or -1 */
    struct timespec *until;
    bool die;
    volatile uint32_t tid;
    volatile long result;
    volatile int error;
    pthread_t thread;
};

static void *work(void *arg)
{
    struct job *job = arg;
    set(0, job->priority);
    if (job->own >= 0)
        futex(&locks[job->own], FUTEX_LOCK_PI, 0, NULL, NULL, 0);
    job->tid = tid();
    if (job->want >= 0) {
        job->result = futex(&locks[job->want], FUTEX_LOCK_PI, 0, job->until, NULL, 0);
        job->error = errno;
        if (job->result == 0)
            order[count++] = tid();
        if (job->result == 0)
            futex(&locks[job->want], FUTEX_UNLOCK_PI, 0, NULL, NULL, 0);
    } else {
        futex(&gate, FUTEX_WAIT, 0, NULL, NULL, 0);
    }
    if (job->own >= 0 && !job->die)
        futex(&locks[job->own], FUTEX_UNLOCK_PI, 0, NULL, NULL, 0);
    return NULL;
}

static void start(struct job *job)
{
    job->tid = 0;
    pthread_create(&job->thread, NULL, work, job);
    while (!job->tid)
        sleep_ms(1);
    until_asleep((pid_t)job->tid);
}

static void chain(void)
{
    struct timespec soon;
    struct job low = {0, 1, 0, 0}, high = {30, -1, 1, 0}, higher = {50, -1, 1, &soon};
    uint32_t me = tid();
    futex(&locks[0], FUTEX_LOCK_PI, 0, NULL, NULL, 0);
    CHECK_EQ("at first", rank_of(me), 20);
    start(&low);
    CHECK_EQ("an equal lends nothing", rank_of(me), 20);
    start(&high);
    CHECK_EQ("the owner is lent it", rank_of(low.tid), -31);
    CHECK_EQ("and the owner it waits for", rank_of(me), -31);
    CHECK_EQ("the policy is what it was", sched_getscheduler(0), SCHED_OTHER);
    struct sched_param param;
    CHECK("so is the priority", sched_getparam(0, &param) == 0 && param.sched_priority == 0);
    set(high.tid, 40);
    CHECK_EQ("raised while it waits", rank_of(me), -41);
    set(high.tid, 25);
    CHECK_EQ("lowered", rank_of(me), -26);
    clock_gettime(CLOCK_REALTIME, &soon);
    soon.tv_sec++;
    start(&higher);
    CHECK_EQ("a second one", rank_of(me), -51);
    pthread_join(higher.thread, NULL);
    CHECK("did not wait for ever", higher.result == -1 && higher.error == ETIMEDOUT);
    CHECK_EQ("and lends nothing any more", rank_of(me), -26);
    set(0, 10);
    CHECK_EQ("a lower priority of one's own", rank_of(me), -26);
    set(0, 60);
    CHECK_EQ("a higher one", rank_of(me), -61);
    set(0, 0);
    pid_t pid = fork();
    if (pid == 0)
        _exit(rank_of(tid()) == 20 ? 0 : 1);
    int status;
    CHECK("a child is lent nothing", waitpid(pid, &status, 0) == pid && exited(status, 0));
    set(0, 70);
    futex(&locks[0], FUTEX_UNLOCK_PI, 0, NULL, NULL, 0);
    set(0, 0);
    pthread_join(low.thread, NULL), pthread_join(high.thread, NULL);
    CHECK_EQ("at last", rank_of(me), 20);
    CHECK("free", locks[0] == 0 && locks[1] == 0);
}

static void turns(void)
{
    struct job jobs[] = {{0, -1, 0, 0}, {10, -1, 0, 0}, {20, -1, 0, 0}, {20, -1, 0, 0}, {0, -1, 0, 0}};
    enum { N = sizeof jobs / sizeof *jobs };
    static const int expected[N] = {2, 3, 1, 0, 4};
    set(0, 90); /* nobody overtakes while this thread looks */
    futex(&locks[0], FUTEX_LOCK_PI, 0, NULL, NULL, 0);
    for (int i = 0; i < N; i++)
        start(&jobs[i]);
    count = 0;
    futex(&locks[0], FUTEX_UNLOCK_PI, 0, NULL, NULL, 0);
    for (int i = 0; i < N; i++)
        pthread_join(jobs[i].thread, NULL);
    bool good = count == N;
    for (int i = 0; i < N; i++)
        good = good && order[i] == jobs[expected[i]].tid;
    CHECK("the most urgent first, equals in order of arrival", good);
    set(0, 0);
}

static char story[8];
static volatile int told;

static void *spin(void *arg)
{
    set(0, 10);
    for (int64_t end = now_ns(CLOCK_THREAD_CPUTIME_ID) + 300000000; now_ns(CLOCK_THREAD_CPUTIME_ID) < end;)
        ;
    story[told++] = 's';
    return arg;
}

static void *need(void *arg)
{
    set(0, 20);
    futex(&locks[0], FUTEX_LOCK_PI, 0, NULL, NULL, 0);
    story[told++] = 'h';
    futex(&locks[0], FUTEX_UNLOCK_PI, 0, NULL, NULL, 0);
    return arg;
}

static void *hold(void *arg)
{
    futex(&locks[0], FUTEX_LOCK_PI, 0, NULL, NULL, 0);
    futex(&gate, FUTEX_WAKE, 1, NULL, NULL, 0);
    for (int64_t end = now_ns(CLOCK_THREAD_CPUTIME_ID) + 60000000; now_ns(CLOCK_THREAD_CPUTIME_ID) < end;)
        ;
    story[told++] = 'l';
    futex(&locks[0], FUTEX_UNLOCK_PI, 0, NULL, NULL, 0);
    return arg;
}

/* One CPU: the owner of a lock could not run beside the spinner, which is more urgent, were it not for who waits. */
static void inversion(void)
{
    pthread_t low, middle, high;
    cpu_set_t all, one;
    sched_getaffinity(0, sizeof all, &all);
    CPU_ZERO(&one);
    for (int cpu = 0; CPU_COUNT(&one) == 0; cpu++)
        if (CPU_ISSET(cpu, &all))
            CPU_SET(cpu, &one);
    sched_setaffinity(0, sizeof one, &one);
    pthread_create(&low, NULL, hold, NULL);
    while (!locks[0])
        sleep_ms(1);
    set(0, 90);
    pthread_create(&middle, NULL, spin, NULL);
    pthread_create(&high, NULL, need, NULL);
    pthread_join(high, NULL), pthread_join(middle, NULL), pthread_join(low, NULL);
    CHECK("no inversion", strcmp(story, "lhs") == 0);
    set(0, 0);
    sched_setaffinity(0, sizeof all, &all);
}

static void death(void)
{
    struct job owner = {.own = 0, .want = -1, .die = true}, one = {10, -1, 0, 0}, two = {20, -1, 0, 0};
    start(&owner), start(&one), start(&two);
    CHECK_EQ("lent", rank_of(owner.tid), -21);
    set(0, 90);
    count = 0;
    futex(&gate, FUTEX_WAKE, 1, NULL, NULL, 0);
    pthread_join(owner.thread, NULL), pthread_join(one.thread, NULL), pthread_join(two.thread, NULL);
    CHECK("the most urgent inherits the lock", count == 2 && order[0] == two.tid && order[1] == one.tid);
    set(0, 0);
    locks[0] = 0;
}

static void deadlock(void)
{
    struct job a = {0, 1, 0, 0}, b = {0, 2, 1, 0};
    futex(&locks[0], FUTEX_LOCK_PI, 0, NULL, NULL, 0);
    start(&a), start(&b);
    CHECK_ERRNO("a circle of three", futex(&locks[2], FUTEX_LOCK_PI, 0, NULL, NULL, 0), EDEADLK);
    futex(&locks[0], FUTEX_UNLOCK_PI, 0, NULL, NULL, 0);
    pthread_join(a.thread, NULL), pthread_join(b.thread, NULL);
    CHECK("free again", locks[0] == 0 && locks[1] == 0);
}

static void *sleeps(void *arg)
{
    struct job *job = arg;
    set(0, job->priority);
    job->tid = tid();
    if (job->want)
        job->result = futex(&gate, FUTEX_WAIT_REQUEUE_PI, 0, NULL, &locks[0], 0);
    else
        job->result = futex(&gate, FUTEX_WAIT, 0, NULL, NULL, 0);
    order[count++] = tid();
    if (job->want)
        futex(&locks[0], FUTEX_UNLOCK_PI, 0, NULL, NULL, 0);
    return NULL;
}

/* Three sleepers, least urgent first: woken, or moved to a lock of this thread's, in which order do they go on? */
static bool urgent_first(bool requeue)
{
    struct job jobs[3] = {{.priority = 10}, {.priority = 20}, {.priority = 30}};
    set(0, 90);
    count = 0;
    for (int i = 0; i < 3; i++) {
        jobs[i].want = requeue, jobs[i].tid = 0;
        pthread_create(&jobs[i].thread, NULL, sleeps, &jobs[i]);
        while (!jobs[i].tid)
            sleep_ms(1);
        until_asleep((pid_t)jobs[i].tid);
    }
    if (requeue) {
        futex(&locks[0], FUTEX_LOCK_PI, 0, NULL, NULL, 0);
        CHECK_EQ("all are moved", futex(&gate, FUTEX_CMP_REQUEUE_PI, 1, (void *)5, &locks[0], 0), 3);
        futex(&locks[0], FUTEX_UNLOCK_PI, 0, NULL, NULL, 0);
    } else {
        for (int i = 0; i < 3; i++) {
            futex(&gate, FUTEX_WAKE, 1, NULL, NULL, 0);
            while (count < (uint32_t)i + 1)
                sleep_ms(1);
        }
    }
    for (int i = 0; i < 3; i++)
        pthread_join(jobs[i].thread, NULL);
    set(0, 0);
    return order[0] == jobs[2].tid && order[1] == jobs[1].tid && order[2] == jobs[0].tid;
}

int main(void)
{
    deadlock();
    if (IS_ROOT) {
        chain();
        turns();
        death();
        CHECK("plain waiters are woken by priority", urgent_first(false));
        CHECK("moved ones, too", urgent_first(true));
        inversion();
    }
    return finish();
}
