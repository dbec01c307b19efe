/* cc: -static
 * RLIMIT_RTTIME, setrlimit(2): a real-time task that does not sleep gets SIGXCPU each second, and is killed in the end.
 */
#include "../check.h"
#include <sys/resource.h>

static struct shared {
    volatile int count;
    volatile int64_t at_ns[8];
    volatile long soft;
} *shared;

static void note(int signo, siginfo_t *info, void *context)
{
    struct rlimit limit;
    (void)signo, (void)info, (void)context;
    getrlimit(RLIMIT_RTTIME, &limit);
    shared->soft = (long)limit.rlim_cur;
    shared->at_ns[shared->count++ & 7] = now_ns(CLOCK_PROCESS_CPUTIME_ID);
}

static void limit(long soft_us, long hard_us)
{
    setrlimit(RLIMIT_RTTIME, &(struct rlimit){(rlim_t)soft_us, (rlim_t)hard_us});
}

static void spin(int64_t ns)
{
    for (int64_t end = now_ns(CLOCK_PROCESS_CPUTIME_ID) + ns; now_ns(CLOCK_PROCESS_CPUTIME_ID) < end;)
        ;
}

static bool go_realtime(void)
{
    return sched_setscheduler(0, SCHED_RR, &(struct sched_param){5}) == 0;
}

static void spinner(void)
{
    catch_with(SIGXCPU, note, 0);
    limit(100000, 1700000);
    CHECK("real time", go_realtime());
    sleep_ms(1);
    spin(5000000000);
    CHECK("is never reached", false);
}

static void sleeps_often(void)
{
    catch_with(SIGXCPU, note, 0);
    limit(300000, 500000);
    go_realtime();
    for (int i = 0; i < 20; i++) {
        spin(40000000);
        sleep_ms(1);
    }
}

static void fair(void)
{
    limit(50000, 100000);
    spin(300000000);
}

static void no_handler(void)
{
    limit(50000, 10000000);
    go_realtime();
    sleep_ms(1);
    spin(5000000000);
}

static bool near_ms(int64_t ns, long ms)
{
    return ns >= (ms - 60) * 1000000 && ns <= (ms + 500) * 1000000;
}

int main(void)
{
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    CHECK("who is not real time may", exited(in_child(fair), 0));
    if (!IS_ROOT)
        return finish();
    CHECK("killed at the hard limit", killed(in_child(spinner), SIGKILL));
    CHECK_EQ("after a signal each second", shared->count, 2);
    CHECK("at the soft limit", near_ms(shared->at_ns[0], 100));
    CHECK("and a second later", near_ms(shared->at_ns[1], 1100));
    CHECK_EQ("the soft limit moves on", shared->soft, 2100000);
    shared->count = 0;
    CHECK("sleeping begins anew", exited(in_child(sleeps_often), 0) && shared->count == 0);
    CHECK("the signal kills", killed(in_child(no_handler), SIGXCPU));
    return finish();
}
