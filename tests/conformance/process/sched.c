/* cc: -static
 * sched(7): sched_setscheduler(2), sched_setattr(2), sched_setaffinity(2), priorities; who runs first on one CPU; ioprio_set(2). */
#include "../check.h"
#include <sys/resource.h>

struct attr {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
    uint32_t util_min, util_max;
    uint64_t beyond;
};
#define SIZE_0 48
#define SIZE_1 56

static struct attr attr;
static struct shared {
    volatile int count;
    volatile char order[64];
} *shared;

static long setattr(pid_t pid, unsigned flags)
{
    return syscall(SYS_sched_setattr, pid, &attr, flags);
}

static long getattr(pid_t pid, unsigned size, unsigned flags)
{
    memset(&attr, 0xff, sizeof attr);
    return syscall(SYS_sched_getattr, pid, &attr, size, flags);
}

static long fill(unsigned policy, unsigned priority, int nice, uint64_t flags)
{
    memset(&attr, 0, sizeof attr);
    attr.size = SIZE_0, attr.policy = policy, attr.priority = priority, attr.nice = nice, attr.flags = flags;
    return setattr(0, 0);
}

static int set(int policy, int priority)
{
    struct sched_param param = {.sched_priority = priority};
    return sched_setscheduler(0, policy, &param);
}

static void attributes(void)
{
    CHECK("getattr", getattr(0, SIZE_0, 0) == 0 && attr.size == SIZE_0 && attr.policy == SCHED_OTHER && attr.nice == 0 && attr.priority == 0);
    CHECK_ERRNO("too small", getattr(0, SIZE_0 - 1, 0), EINVAL);
    CHECK_ERRNO("flags", getattr(0, SIZE_0, 1), EINVAL);
    CHECK_ERRNO("nobody's", getattr(0x3fffffff, SIZE_0, 0), ESRCH);
    CHECK_ERRNO("a negative process", getattr(-1, SIZE_0, 0), EINVAL);
    CHECK_ERRNO("NULL", syscall(SYS_sched_getattr, 0, NULL, SIZE_0, 0), EINVAL);
    CHECK_ERRNO("bad pointer", syscall(SYS_sched_getattr, 0, 8, SIZE_0, 0), EFAULT);
    CHECK("SCHED_BATCH with a nice value", fill(SCHED_BATCH, 0, 5, 0) == 0 && sched_getscheduler(0) == SCHED_BATCH && getpriority(PRIO_PROCESS, 0) == 5);
    CHECK_ERRNO("a policy that is not", fill(99, 0, 5, 0), EINVAL);
    CHECK_ERRNO("a priority for SCHED_OTHER", fill(SCHED_OTHER, 1, 5, 0), EINVAL);
    CHECK_ERRNO("none for SCHED_FIFO", fill(SCHED_FIFO, 0, 5, 0), EINVAL);
    CHECK_ERRNO("too high a one", fill(SCHED_FIFO, 100, 5, 0), EINVAL);
    CHECK_ERRNO("an unknown flag", fill(SCHED_OTHER, 0, 5, 0x80), EINVAL);
    CHECK_ERRNO("a deadline without a run time", fill(6, 0, 0, 0), EINVAL);
    fill(SCHED_OTHER, 0, 5, 0);
    CHECK_ERRNO("call flags", setattr(0, 1), EINVAL);
    attr.size = sizeof attr, attr.beyond = 1;
    CHECK_ERRNO("more than is known", setattr(0, 0), E2BIG);
    CHECK("says what is", attr.size >= SIZE_1);
    attr.size = 8;
    CHECK_ERRNO("less than there must be", setattr(0, 0), E2BIG);
    attr.size = sizeof attr, attr.beyond = 0;
    CHECK_EQ("zeros beyond", setattr(0, 0), 0);
    memset(&attr, 0, sizeof attr);
    attr.size = 0, attr.nice = 6;
    CHECK("size 0 is the first version", setattr(0, 0) == 0 && getpriority(PRIO_PROCESS, 0) == 6);
    attr.nice = 100;
    CHECK("nice values are clamped", setattr(0, 0) == 0 && getpriority(PRIO_PROCESS, 0) == 19);
    CHECK_ERRNO("setscheduler: negative policy", set(-1, 0), EINVAL);
    CHECK_ERRNO("setscheduler: no parameter", sched_setscheduler(0, SCHED_OTHER, NULL), EINVAL);
    CHECK_ERRNO("setparam: a priority", sched_setparam(0, &(struct sched_param){5}), EINVAL);
    CHECK("init", sched_getscheduler(1) >= 0);
    struct sched_param param = {77};
    cpu_set_t cpus;
    CHECK("init's parameters", sched_getparam(1, &param) == 0 && param.sched_priority == 0 && sched_getaffinity(1, sizeof cpus, &cpus) == 0);
    CHECK_ERRNO("a negative pid is nobody's affinity", sched_getaffinity(-1, sizeof cpus, &cpus), ESRCH);
    CHECK_ERRNO("nor to be changed", sched_setaffinity(-1, sizeof cpus, &cpus), ESRCH);
    CHECK_ERRNO("but no argument of getparam", sched_getparam(-1, &param), EINVAL);
    CHECK_ERRNO("nor of getscheduler", sched_getscheduler(-1), EINVAL);
    param.sched_priority = 77;
    CHECK("getparam", sched_getparam(0, &param) == 0 && param.sched_priority == 0);
}

static int child_policy(void)
{
    pid_t pid = fork();
    int status;
    if (pid == 0)
        _exit((int)sched_getscheduler(0) & 0x7f);
    waitpid(pid, &status, 0);
    return WEXITSTATUS(status);
}

static int child_nice(void)
{
    pid_t pid = fork();
    int status;
    if (pid == 0)
        _exit(getpriority(PRIO_PROCESS, 0) + 20);
    waitpid(pid, &status, 0);
    return WEXITSTATUS(status) - 20;
}

static void inheritance(void)
{
    setpriority(PRIO_PROCESS, 0, 7);
    CHECK_EQ("a child has the nice value", child_nice(), 7);
    set(SCHED_BATCH, 0);
    CHECK_EQ("and the policy", child_policy(), SCHED_BATCH);
    set(SCHED_BATCH | SCHED_RESET_ON_FORK, 0);
    CHECK_EQ("SCHED_RESET_ON_FORK shows", sched_getscheduler(0), SCHED_BATCH | SCHED_RESET_ON_FORK);
    CHECK_EQ("not in the child", child_policy(), SCHED_BATCH);
    CHECK("as an attribute, too", getattr(0, SIZE_0, 0) == 0 && attr.flags == 1 && attr.policy == SCHED_BATCH);
}

static void unprivileged(void)
{
    bool was_root = IS_ROOT;
    if (was_root && (setgid(4321) || setuid(4321)))
        _exit(9);
    CHECK_ERRNO("SCHED_FIFO", set(SCHED_FIFO, 1), EPERM);
    CHECK_ERRNO("SCHED_RR", set(SCHED_RR, 1), EPERM);
    memset(&attr, 0, sizeof attr);
    attr.size = SIZE_0, attr.policy = 6, attr.runtime = 1000000, attr.deadline = attr.period = 10000000;
    CHECK_ERRNO("SCHED_DEADLINE", setattr(0, 0), EPERM);
    CHECK_ERRNO("init's policy", sched_setscheduler(1, SCHED_BATCH, &(struct sched_param){0}), EPERM);
    CHECK_ERRNO("a lower nice value", setpriority(PRIO_PROCESS, 0, -1), EACCES);
    CHECK_ERRNO("a lower one as an attribute", fill(SCHED_OTHER, 0, -1, 0), EPERM);
    if (was_root) {
        cpu_set_t all;
        memset(&all, 0xff, sizeof all);
        CHECK_ERRNO("somebody else's nice value", setpriority(PRIO_PROCESS, getppid(), 19), EPERM);
        CHECK_ERRNO("somebody else's CPUs", sched_setaffinity(getppid(), sizeof all, &all), EPERM);
        CHECK_ERRNO("somebody else's policy", sched_setscheduler(getppid(), SCHED_BATCH, &(struct sched_param){0}), EPERM);
    }
    CHECK_EQ("SCHED_IDLE", set(SCHED_IDLE, 0), 0);
    CHECK_ERRNO("is not left again", set(SCHED_OTHER, 0), EPERM);
    CHECK_EQ("SCHED_RESET_ON_FORK", set(SCHED_IDLE | SCHED_RESET_ON_FORK, 0), 0);
    CHECK_ERRNO("cannot be taken back", set(SCHED_IDLE, 0), EPERM);
}

static void realtime(void)
{
    struct timespec slice;
    struct sched_param param;
    setpriority(PRIO_PROCESS, 0, 3);
    CHECK("SCHED_FIFO", set(SCHED_FIFO, 10) == 0 && sched_getscheduler(0) == SCHED_FIFO);
    CHECK("its priority", sched_getparam(0, &param) == 0 && param.sched_priority == 10);
    CHECK("has no slice", sched_rr_get_interval(0, &slice) == 0 && slice.tv_sec == 0 && slice.tv_nsec == 0);
    CHECK("another priority", sched_setparam(0, &(struct sched_param){20}) == 0 && sched_getparam(0, &param) == 0 && param.sched_priority == 20);
    CHECK("as attributes", getattr(0, SIZE_0, 0) == 0 && attr.policy == SCHED_FIFO && attr.priority == 20);
    CHECK_EQ("children have it", child_policy(), SCHED_FIFO);
    CHECK("not after SCHED_RESET_ON_FORK", set(SCHED_FIFO | SCHED_RESET_ON_FORK, 20) == 0 && child_policy() == SCHED_OTHER && child_nice() == 0);
    CHECK("SCHED_RR", set(SCHED_RR, 99) == 0 && sched_getscheduler(0) == SCHED_RR);
    CHECK("has one", sched_rr_get_interval(0, &slice) == 0 && slice.tv_sec == 0 && slice.tv_nsec > 0);
    CHECK("back to SCHED_OTHER with its nice value", set(SCHED_OTHER, 0) == 0 && getpriority(PRIO_PROCESS, 0) == 3);
    setpriority(PRIO_PROCESS, 0, -5);
    CHECK("a negative nice value", getpriority(PRIO_PROCESS, 0) == -5 && child_nice() == -5);
    set(SCHED_OTHER | SCHED_RESET_ON_FORK, 0);
    CHECK_EQ("is not inherited then", child_nice(), 0);
}

static void bind_to_one(void)
{
    cpu_set_t mask, one;
    sched_getaffinity(0, sizeof mask, &mask);
    int first = CPU_SETSIZE - 1;
    while (!CPU_ISSET(first, &mask))
        first--;
    CPU_ZERO(&one);
    CPU_SET(first, &one);
    CHECK_EQ("bind to the last CPU", sched_setaffinity(0, sizeof one, &one), 0);
    CHECK_EQ("runs there at once", sched_getcpu(), first);
    CHECK("and says so", sched_getaffinity(0, sizeof mask, &mask) == 0 && CPU_EQUAL(&mask, &one));
    pid_t pid = fork();
    int status;
    if (pid == 0)
        _exit(sched_getcpu() == first && sched_getaffinity(0, sizeof mask, &mask) == 0 && CPU_EQUAL(&mask, &one) ? 5 : 6);
    CHECK("children are bound, too", waitpid(pid, &status, 0) == pid && exited(status, 5));
}

static void note(char who)
{
    shared->order[shared->count++] = who; /* one CPU, and nobody is preempted between its own two steps by an equal */
}

static pid_t spawn(char who, int policy, int priority, int start, int64_t spin_ns)
{
    pid_t pid = fork();
    if (pid == 0) {
        char c;
        set(policy, priority);
        read(start, &c, 1);
        note(who);
        int64_t end = now_ns(CLOCK_THREAD_CPUTIME_ID) + spin_ns;
        while (spin_ns && now_ns(CLOCK_THREAD_CPUTIME_ID) < end)
            ;
        if (spin_ns)
            note((char)(who + 'a' - 'A'));
        _exit(0);
    }
    return pid;
}

static bool order_is(const char *want)
{
    while (wait(NULL) > 0)
        ;
    bool good = shared->count == (int)strlen(want) && memcmp((char *)shared->order, want, strlen(want)) == 0;
    if (!good)
        say("the order was %.*s\n", shared->count, (char *)shared->order);
    shared->count = 0;
    return good;
}

static void one_cpu(void)
{
    int start[3][2];
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i < 3; i++)
        pipe(start[i]);
    set(SCHED_FIFO, 50);
    spawn('C', SCHED_FIFO, 30, start[0][0], 0);
    spawn('B', SCHED_FIFO, 40, start[1][0], 0);
    spawn('A', SCHED_FIFO, 60, start[2][0], 0);
    sleep_ms(30);
    for (int i = 0; i < 3; i++)
        write(start[i][1], "x", 1);
    note('P');
    CHECK("the highest priority first, and at once", order_is("APBC"));
    pid_t pid = fork();
    for (int i = 0; i < 3; i++) {
        note(pid ? 'P' : 'C');
        sched_yield();
    }
    if (pid == 0)
        _exit(0);
    CHECK("equals take turns by yielding", order_is("PCPCPC"));
    spawn('A', SCHED_FIFO, 40, start[0][0], 150000000), spawn('B', SCHED_FIFO, 40, start[0][0], 150000000);
    sleep_ms(30);
    write(start[0][1], "xx", 2);
    CHECK("lowered to equals, the last is first; SCHED_FIFO runs to its end", order_is("BbAa"));
    spawn('A', SCHED_RR, 40, start[0][0], 250000000), spawn('B', SCHED_RR, 40, start[0][0], 250000000);
    sleep_ms(30);
    write(start[0][1], "xx", 2);
    CHECK("SCHED_RR by slices", order_is("BAba"));
    spawn('A', SCHED_OTHER, 0, start[0][0], 30000000), spawn('B', SCHED_RR, 1, start[0][0], 30000000);
    sleep_ms(30);
    write(start[0][1], "xx", 2);
    CHECK("any real-time priority before none", order_is("BbAa"));
}

static void io(void)
{
    setpgid(0, 0);
    CHECK_EQ("ioprio_set", syscall(SYS_ioprio_set, 1, 0, 2 << 13 | 3), 0);
    CHECK_EQ("ioprio_get", syscall(SYS_ioprio_get, 1, 0), 2 << 13 | 3);
    pid_t pid = fork();
    int status;
    if (pid == 0)
        _exit(syscall(SYS_ioprio_get, 1, 0) == (2 << 13 | 3) ? 0 : 1);
    CHECK("a child has it", waitpid(pid, &status, 0) == pid && exited(status, 0));
    CHECK_EQ("of the group", syscall(SYS_ioprio_set, 2, 0, 3 << 13), 0);
    CHECK_EQ("the idle class", syscall(SYS_ioprio_get, 1, getpid()), 3 << 13);
    CHECK_ERRNO("a class that is not", syscall(SYS_ioprio_set, 1, 0, 7 << 13), EINVAL);
    CHECK_ERRNO("a level without a class", syscall(SYS_ioprio_set, 1, 0, 1), EINVAL);
    CHECK_ERRNO("bad which", syscall(SYS_ioprio_set, 9, 0, 2 << 13), EINVAL);
    CHECK_ERRNO("bad which to get", syscall(SYS_ioprio_get, 0, 0), EINVAL);
    CHECK_ERRNO("nobody's", syscall(SYS_ioprio_get, 1, 0x3fffffff), ESRCH);
    if (IS_ROOT)
        CHECK("the real-time class", syscall(SYS_ioprio_set, 1, 0, 1 << 13 | 4) == 0 && syscall(SYS_ioprio_get, 1, 0) == (1 << 13 | 4));
    else
        CHECK_ERRNO("the real-time class", syscall(SYS_ioprio_set, 1, 0, 1 << 13 | 4), EPERM);
}

int main(void)
{
    CHECK("attributes", exited(in_child(attributes), 0));
    CHECK("inheritance", exited(in_child(inheritance), 0));
    CHECK("unprivileged", exited(in_child(unprivileged), 0));
    CHECK("I/O", exited(in_child(io), 0));
    if (IS_ROOT)
        CHECK("real time", exited(in_child(realtime), 0));
    bind_to_one();
    if (IS_ROOT)
        CHECK("one CPU", exited(in_child(one_cpu), 0));
    return finish();
}
