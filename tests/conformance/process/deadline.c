/* cc: -static
 * sched(7), "SCHED_DEADLINE": what sched_setattr(2) takes and refuses, the bandwidth there is, fork(2), throttling, SIGXCPU,
 * sched_yield(2), affinity. */
#include "../check.h"
#include <pthread.h>
#include <sys/resource.h>
#ifndef SCHED_DEADLINE
#define SCHED_DEADLINE 6
#endif
#define MS 1000000ull
#define RESET 1
#define RECLAIM 2
#define OVERRUN 4
#define KEEP_POLICY 8
#define KEEP_PARAMS 16

static struct attr {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
} attr;
static volatile int overruns, code;

static long reserve(pid_t pid, uint64_t flags, uint64_t runtime, uint64_t deadline, uint64_t period)
{
    attr = (struct attr){.size = sizeof attr, .policy = SCHED_DEADLINE, .flags = flags};
    attr.runtime = runtime, attr.deadline = deadline, attr.period = period;
    return syscall(SYS_sched_setattr, pid, &attr, 0);
}

static bool has(uint64_t flags, uint64_t runtime, uint64_t deadline, uint64_t period)
{
    memset(&attr, 0xff, sizeof attr);
    return syscall(SYS_sched_getattr, 0, &attr, sizeof attr, 0) == 0 && attr.policy == SCHED_DEADLINE && attr.flags == flags &&
           attr.nice == 0 && attr.priority == 0 && attr.runtime == runtime && attr.deadline == deadline && attr.period == period;
}

static long leave(void)
{
    return sched_setscheduler(0, SCHED_OTHER, &(struct sched_param){0});
}

static void refusals(void)
{
    CHECK_ERRNO("no times", reserve(0, 0, 0, 0, 0), EINVAL);
    CHECK_ERRNO("no deadline", reserve(0, 0, MS, 0, 10 * MS), EINVAL);
    CHECK_ERRNO("too short a run time", reserve(0, 0, 1023, 10 * MS, 0), EINVAL);
    CHECK_ERRNO("longer than the deadline", reserve(0, 0, 20 * MS, 10 * MS, 20 * MS), EINVAL);
    CHECK_ERRNO("a deadline beyond the period", reserve(0, 0, MS, 10 * MS, 5 * MS), EINVAL);
    CHECK_ERRNO("a period below 100 us", reserve(0, 0, 2048, 99999, 99999), EINVAL);
    CHECK_ERRNO("one of more than 4.19 s", reserve(0, 0, MS, 10 * MS, 4194304001ull), EINVAL);
    CHECK_ERRNO("the highest bit of the deadline", reserve(0, 0, MS, 1ull << 63, 0), EINVAL);
    CHECK_ERRNO("the highest bit of the period", reserve(0, 0, MS, MS, 1ull << 63), EINVAL);
    CHECK_ERRNO("an unknown flag", reserve(0, 0x80, MS, 10 * MS, 0), EINVAL);
    CHECK_ERRNO("nobody's", reserve(0x3fffffff, 0, MS, 10 * MS, 0), ESRCH);
    CHECK_ERRNO("sched_setscheduler has no times", sched_setscheduler(0, SCHED_DEADLINE, &(struct sched_param){0}), EINVAL);
    reserve(0, 0, MS, 10 * MS, 0);
    attr.priority = 1;
    CHECK_ERRNO("a priority", syscall(SYS_sched_setattr, 0, &attr, 0), EINVAL);
}

static void unprivileged(void)
{
    if (IS_ROOT && (setgid(4321) || setuid(4321)))
        _exit(9);
    CHECK_ERRNO("not for everybody", reserve(0, 0, MS, 10 * MS, 0), EPERM);
    CHECK_ERRNO("what makes no sense first", reserve(0, 0, 0, 0, 0), EINVAL);
    CHECK_ERRNO("nor an unknown flag", reserve(0, 0x80, MS, 10 * MS, 0), EINVAL);
}

static void dropped(void)
{
    CHECK_EQ("had it before", reserve(0, 0, 20 * MS, 100 * MS, 0), 0);
    if (setgid(4321) || setuid(4321))
        _exit(9);
    CHECK_ERRNO("more of it", reserve(0, 0, 30 * MS, 100 * MS, 0), EPERM);
    CHECK_ERRNO("less of it", reserve(0, 0, 10 * MS, 100 * MS, 0), EPERM);
    CHECK_EQ("giving it up", leave(), 0);
}

static void attributes(void)
{
    struct timespec slice = {1, 1};
    struct sched_param param = {77};
    setpriority(PRIO_PROCESS, 0, 5);
    CHECK("the period is the deadline", reserve(0, 0, 20 * MS, 100 * MS, 0) == 0 && has(0, 20 * MS, 100 * MS, 100 * MS));
    CHECK("flags", reserve(0, RECLAIM | OVERRUN | RESET, 20 * MS, 100 * MS, 200 * MS) == 0 && has(7, 20 * MS, 100 * MS, 200 * MS));
    CHECK_EQ("the policy", sched_getscheduler(0), SCHED_DEADLINE | SCHED_RESET_ON_FORK);
    CHECK("no priority", sched_getparam(0, &param) == 0 && param.sched_priority == 0);
    CHECK("no slice", sched_rr_get_interval(0, &slice) == 0 && slice.tv_sec == 0 && slice.tv_nsec == 0);
    CHECK("priorities of the policy", sched_get_priority_max(SCHED_DEADLINE) == 0 && sched_get_priority_min(SCHED_DEADLINE) == 0);
    CHECK_ERRNO("sched_setparam has no times", sched_setparam(0, &(struct sched_param){0}), EINVAL);
    CHECK("other times", reserve(0, KEEP_POLICY, 10 * MS, 50 * MS, 0) == 0 && has(1, 10 * MS, 50 * MS, 50 * MS));
    CHECK("the same times", reserve(0, KEEP_PARAMS, 0, 0, 0) == 0 && has(0, 10 * MS, 50 * MS, 50 * MS));
    CHECK("the same altogether", reserve(0, KEEP_PARAMS | KEEP_POLICY, 0, 0, 0) == 0 && has(0, 10 * MS, 50 * MS, 50 * MS));
    char text[512] = "";
    int fd = open("/proc/self/stat", O_RDONLY), rt = -1, policy = -1, prio = 0;
    read(fd, text, sizeof text - 1);
    char *at = strrchr(text, ')');
    for (int field = 2; at && field < 42; field++, at = strchr(at + 1, ' '))
        if (field == 18)
            prio = atoi(at + 1);
        else if (field == 40)
            rt = atoi(at + 1);
        else if (field == 41)
            policy = atoi(at + 1);
    CHECK("/proc/self/stat", prio == -101 && rt == 0 && policy == SCHED_DEADLINE);
    CHECK("back to SCHED_OTHER, with the nice value", leave() == 0 && sched_getscheduler(0) == 0 && getpriority(PRIO_PROCESS, 0) == 5);
    CHECK("SCHED_FIFO from it", reserve(0, 0, 10 * MS, 100 * MS, 0) == 0 && sched_setscheduler(0, SCHED_FIFO, &(struct sched_param){3}) == 0);
    CHECK("and back", reserve(0, 0, 10 * MS, 100 * MS, 0) == 0 && has(0, 10 * MS, 100 * MS, 100 * MS));
}

static void *nothing(void *unused)
{
    return unused;
}

static void children(void)
{
    pthread_t thread;
    int status;
    reserve(0, 0, 20 * MS, 100 * MS, 0);
    CHECK_ERRNO("fork", fork(), EAGAIN);
    CHECK_EQ("a thread", pthread_create(&thread, NULL, nothing, NULL), EAGAIN);
    reserve(0, RESET, 20 * MS, 100 * MS, 0);
    pid_t pid = fork();
    if (pid == 0)
        _exit(sched_getscheduler(0) == SCHED_OTHER && getpriority(PRIO_PROCESS, 0) == 0 ? 3 : 4);
    CHECK("fork with SCHED_FLAG_RESET_ON_FORK", waitpid(pid, &status, 0) == pid && exited(status, 3));
    CHECK("is the parent's alone", has(RESET, 20 * MS, 100 * MS, 100 * MS));
    CHECK("somebody else's", (pid = sleeper()) > 0 && reserve(pid, 0, MS, 10 * MS, 0) == 0 && sched_getscheduler(pid) == SCHED_DEADLINE);
    kill(pid, SIGKILL);
    CHECK("a signal ends it", waitpid(pid, &status, 0) == pid && killed(status, SIGKILL));
    if ((pid = fork()) == 0) {
        reserve(0, 0, 2 * MS, 4000 * MS, 0);
        for (;;)
            ;
    }
    sleep_ms(50);
    kill(pid, SIGKILL);
    CHECK("even throttled", waitpid(pid, &status, 0) == pid && killed(status, SIGKILL));
}

static void affinity(void)
{
    cpu_set_t all, one;
    sched_getaffinity(0, sizeof all, &all);
    if (CPU_COUNT(&all) < 2 || CPU_COUNT(&all) < sysconf(_SC_NPROCESSORS_ONLN)) {
        for (int i = 0; i < 5; i++)
            SKIP("affinity", "not every CPU, or one alone");
        return;
    }
    CPU_ZERO(&one);
    CPU_SET(0, &one);
    reserve(0, 0, 20 * MS, 100 * MS, 0);
    CHECK_ERRNO("some CPUs", sched_setaffinity(0, sizeof one, &one), EBUSY);
    CHECK_EQ("all CPUs", sched_setaffinity(0, sizeof all, &all), 0);
    leave();
    CHECK_EQ("some CPUs afterwards", sched_setaffinity(0, sizeof one, &one), 0);
    CHECK_ERRNO("no deadline there", reserve(0, 0, 20 * MS, 100 * MS, 0), EPERM);
    sched_setaffinity(0, sizeof all, &all);
    CHECK_EQ("on all again", reserve(0, 0, 20 * MS, 100 * MS, 0), 0);
}

static void bandwidth(void)
{
    long cpus = sysconf(_SC_NPROCESSORS_ONLN), given = 0, last = 0;
    pid_t pids[512];
    for (; given < 512; given++) {
        pids[given] = sleeper();
        last = reserve(pids[given], 0, 50 * MS, 100 * MS, 0);
        if (last != 0)
            break;
    }
    CHECK("EBUSY in the end", last == -1 && errno == EBUSY);
    CHECK("not before it is nearly used up, nor after", given * 10 <= cpus * 19 && (given + 1) * 10 > cpus * 18);
    pid_t first = pids[0];
    CHECK_ERRNO("nor more of it for who has some", reserve(first, 0, 100 * MS, 100 * MS, 0), EBUSY);
    kill(first, SIGKILL);
    waitpid(first, NULL, 0);
    bool again = false;
    for (int i = 0; i < 50 && !again; i++, sleep_ms(10))
        again = reserve(pids[given], 0, 50 * MS, 100 * MS, 0) == 0;
    CHECK("what somebody had who ended can be had", again);
    for (long i = 1; i <= given; i++) {
        kill(pids[i], SIGKILL);
        waitpid(pids[i], NULL, 0);
    }
}

static void overran(int signo, siginfo_t *info, void *context)
{
    (void)signo, (void)context;
    overruns++, code = info->si_code;
}

/* Compute for so long on the wall's clock: how much of it on the CPU's; `gaps`: how often away for 20 ms and more. */
static int64_t burn(int64_t ns, int *gaps)
{
    int64_t start = now_ns(CLOCK_MONOTONIC), used = now_ns(CLOCK_THREAD_CPUTIME_ID), last = start, now;
    *gaps = 0;
    while ((now = now_ns(CLOCK_MONOTONIC)) < start + ns) {
        *gaps += now - last >= (int64_t)(20 * MS);
        last = now;
    }
    return now_ns(CLOCK_THREAD_CPUTIME_ID) - used;
}

static void throttling(void)
{
    int gaps;
    catch_with(SIGXCPU, overran, SA_RESTART);
    reserve(0, 0, 20 * MS, 100 * MS, 0);
    int64_t used = burn(500 * MS, &gaps);
    CHECK("no more than its share, though the CPU is free", used < (int64_t)(250 * MS) && gaps >= 2);
    CHECK_EQ("no signal unasked", overruns, 0);
    reserve(0, OVERRUN, 20 * MS, 100 * MS, 0);
    burn(400 * MS, &gaps);
    CHECK("SIGXCPU at each overrun", overruns >= 1 && overruns <= 8 && code == SI_KERNEL);
    reserve(0, RECLAIM, 20 * MS, 100 * MS, 0);
    CHECK("with SCHED_FLAG_RECLAIM what others leave", burn(400 * MS, &gaps) > (int64_t)(120 * MS));
}

static void yielding(void)
{
    reserve(0, 0, 50 * MS, 100 * MS, 0);
    sched_yield();
    int64_t start = now_ns(CLOCK_MONOTONIC), used = now_ns(CLOCK_THREAD_CPUTIME_ID);
    for (int i = 0; i < 3; i++)
        sched_yield();
    int64_t wall = now_ns(CLOCK_MONOTONIC) - start;
    CHECK("sched_yield waits for the next period", wall > (int64_t)(250 * MS) && wall < (int64_t)(900 * MS));
    CHECK("and uses nothing", now_ns(CLOCK_THREAD_CPUTIME_ID) - used < (int64_t)(30 * MS));
    start = now_ns(CLOCK_MONOTONIC);
    for (int i = 0; i < 5; i++)
        sleep_ms(10);
    CHECK("sleeping does not", now_ns(CLOCK_MONOTONIC) - start < (int64_t)(400 * MS));
}

int main(void)
{
    setpgid(0, 0);
    if (IS_ROOT && (reserve(0, RESET, 20 * MS, 100 * MS, 0) != 0 || leave() != 0)) {
        say("skip all: no SCHED_DEADLINE here\n");
        return 0;
    }
    CHECK("unprivileged", exited(in_child(unprivileged), 0));
    if (!IS_ROOT)
        return finish();
    CHECK("refusals", exited(in_child(refusals), 0));
    CHECK("dropped", exited(in_child(dropped), 0));
    CHECK("attributes", exited(in_child(attributes), 0));
    CHECK("children", exited(in_child(children), 0));
    CHECK("affinity", exited(in_child(affinity), 0));
    CHECK("bandwidth", exited(in_child(bandwidth), 0));
    CHECK("throttling", exited(in_child(throttling), 0));
    CHECK("yielding", exited(in_child(yielding), 0));
    return finish();
}
