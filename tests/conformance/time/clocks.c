/* cc:
 * clock_gettime(2), clock_getres(2), gettimeofday(2), time(2), nanosleep(2), clock_nanosleep(2); the vDSO agrees. */
#include "../check.h"
#include <sys/auxv.h>
#include <sys/time.h>

static int64_t raw_ns(clockid_t clock)
{
    struct timespec time;
    syscall(SYS_clock_gettime, clock, &time);
    return time.tv_sec * 1000000000ll + time.tv_nsec;
}

static bool agrees(clockid_t clock)
{
    for (int i = 0; i < 200; i++) {
        int64_t a = raw_ns(clock), b = now_ns(clock), c = raw_ns(clock);
        if (b < a || c < b)
            return false;
    }
    return true;
}

static void clocks(void)
{
    CHECK("CLOCK_MONOTONIC: vDSO and system call agree", agrees(CLOCK_MONOTONIC));
    CHECK("CLOCK_REALTIME: vDSO and system call agree", agrees(CLOCK_REALTIME));
    CHECK("CLOCK_BOOTTIME: vDSO and system call agree", agrees(CLOCK_BOOTTIME));
    int64_t fine = now_ns(CLOCK_MONOTONIC), coarse = now_ns(CLOCK_MONOTONIC_COARSE), after = now_ns(CLOCK_MONOTONIC);
    CHECK("coarse clock is near", coarse <= after && fine - coarse < 50000000);
    int64_t last = 0;
    bool forward = true;
    for (int i = 0; i < 10000; i++) {
        int64_t now = now_ns(CLOCK_MONOTONIC);
        forward &= now >= last, last = now;
    }
    CHECK("never backwards", forward);
    struct timeval tv;
    struct timezone tz = {9, 9};
    CHECK_EQ("gettimeofday", gettimeofday(&tv, &tz), 0);
    int64_t real = now_ns(CLOCK_REALTIME);
    CHECK("is CLOCK_REALTIME", llabs(real / 1000 - (tv.tv_sec * 1000000ll + tv.tv_usec)) < 1000000);
    time_t seconds;
    CHECK("time", time(&seconds) == seconds && llabs(seconds - real / 1000000000) <= 1);
    CHECK("after 2020", seconds > 1577836800);
    struct timespec res;
    CHECK("resolution", clock_getres(CLOCK_MONOTONIC, &res) == 0 && res.tv_sec == 0 && res.tv_nsec == 1);
    CHECK_ERRNO("bad clock", clock_gettime(999, &res), EINVAL);
    CHECK_ERRNO("bad pointer", syscall(SYS_clock_gettime, CLOCK_MONOTONIC, 8), EFAULT);
    CHECK_EQ("TAI minus UTC", (now_ns(CLOCK_TAI) - now_ns(CLOCK_REALTIME)) / 1000000000 < 100, 1);
    CHECK("the vDSO is mapped", getauxval(AT_SYSINFO_EHDR) != 0);
    if (IS_ROOT)
        SKIP("clock_settime", "root may");
    else
        CHECK_ERRNO("clock_settime", clock_settime(CLOCK_REALTIME, &res), EPERM);
    CHECK_ERRNO("CLOCK_MONOTONIC cannot be set", clock_settime(CLOCK_MONOTONIC, &res), EINVAL);
}

static void cpu(void)
{
    int64_t process = now_ns(CLOCK_PROCESS_CPUTIME_ID), thread = now_ns(CLOCK_THREAD_CPUTIME_ID);
    int64_t wall = now_ns(CLOCK_MONOTONIC);
    while (now_ns(CLOCK_MONOTONIC) - wall < 30000000)
        ;
    int64_t used = now_ns(CLOCK_PROCESS_CPUTIME_ID) - process;
    CHECK("the process's time runs while it works", used > 3000000);
    CHECK("the thread's too", now_ns(CLOCK_THREAD_CPUTIME_ID) - thread > 3000000);
    process = now_ns(CLOCK_PROCESS_CPUTIME_ID);
    sleep_ms(30);
    CHECK("but not while it sleeps", now_ns(CLOCK_PROCESS_CPUTIME_ID) - process < 20000000);
    clockid_t other;
    CHECK("clock_getcpuclockid", clock_getcpuclockid(getpid(), &other) == 0 && now_ns(other) >= process);
}

static void sleeps(void)
{
    struct timespec time = {0, 10000000}, wrong = {0, -1}, until, past = {1, 0};
    int64_t start = now_ns(CLOCK_MONOTONIC);
    CHECK_EQ("nanosleep", nanosleep(&time, NULL), 0);
    CHECK("sleeps long enough", now_ns(CLOCK_MONOTONIC) - start >= 10000000);
    clock_gettime(CLOCK_REALTIME, &until);
    int64_t end = until.tv_sec * 1000000000ll + until.tv_nsec + 10000000;
    until = (struct timespec){end / 1000000000, end % 1000000000};
    CHECK_EQ("clock_nanosleep till a time", clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &until, NULL), 0);
    CHECK("not before it", now_ns(CLOCK_REALTIME) >= end);
    CHECK_EQ("a past time", clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &past, NULL), 0);
    CHECK_ERRNO("negative nanoseconds", nanosleep(&wrong, NULL), EINVAL);
    CHECK_EQ("thread CPU clock", clock_nanosleep(CLOCK_THREAD_CPUTIME_ID, 0, &time, NULL), EINVAL);
    CHECK_ERRNO("bad pointer", syscall(SYS_nanosleep, 8, 0), EFAULT);
}

int main(void)
{
    clocks();
    cpu();
    sleeps();
    return finish();
}
