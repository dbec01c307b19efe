/* cc: -static -pthread
 * setitimer(2), alarm(2), timer_create(2) and its signals, overruns, CPU-time timers. */
#include "../check.h"
#include <sys/time.h>
#include <sys/timerfd.h>

static volatile int alarms, value, code, overrun;

static void handler(int signo, siginfo_t *info, void *context)
{
    (void)signo, (void)context;
    alarms++, value = info->si_value.sival_int, code = info->si_code, overrun = info->si_overrun;
}

static void wait_for(int want)
{
    for (int i = 0; i < 2000 && alarms < want; i++)
        sleep_ms(1);
}

static void interval(void)
{
    catch_with(SIGALRM, handler, SA_RESTART);
    struct itimerval set = {{0, 3000}, {0, 3000}}, off = {{0, 0}, {0, 0}}, now;
    CHECK_EQ("setitimer", setitimer(ITIMER_REAL, &set, NULL), 0);
    wait_for(3);
    CHECK("repeats", alarms >= 3 && code == SI_KERNEL);
    CHECK("getitimer", getitimer(ITIMER_REAL, &now) == 0 && now.it_interval.tv_usec == 3000 && now.it_value.tv_usec <= 3000);
    CHECK("the old one", setitimer(ITIMER_REAL, &off, &now) == 0 && now.it_interval.tv_usec == 3000);
    alarms = 0;
    sleep_ms(10);
    CHECK_EQ("off", alarms, 0);
    CHECK_EQ("alarm", alarm(50), 0);
    CHECK("alarm says what was left", alarm(0) == 50);
    set.it_value.tv_usec = 1000000;
    CHECK_ERRNO("bad time", setitimer(ITIMER_REAL, &set, NULL), EINVAL);
    CHECK_ERRNO("bad timer", setitimer(7, &off, NULL), EINVAL);
    catch_with(SIGVTALRM, handler, SA_RESTART);
    catch_with(SIGPROF, handler, SA_RESTART);
    struct itimerval soon = {{0, 0}, {0, 10000}};
    setitimer(ITIMER_VIRTUAL, &soon, NULL);
    int64_t start = now_ns(CLOCK_MONOTONIC);
    while (!alarms && now_ns(CLOCK_MONOTONIC) - start < 1500000000)
        ;
    CHECK_EQ("ITIMER_VIRTUAL", alarms, 1);
    setitimer(ITIMER_PROF, &soon, NULL);
    while (alarms < 2 && now_ns(CLOCK_MONOTONIC) - start < 1500000000)
        getppid();
    CHECK_EQ("ITIMER_PROF", alarms, 2);
    alarms = 0;
    setitimer(ITIMER_VIRTUAL, &soon, NULL);
    sleep_ms(30);
    CHECK_EQ("ITIMER_VIRTUAL does not run while asleep", alarms, 0);
    setitimer(ITIMER_VIRTUAL, &off, NULL);
}

static void posix(void)
{
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN, .sigev_value.sival_int = 77};
    catch_with(SIGRTMIN, handler, SA_RESTART);
    alarms = 0;
    CHECK_EQ("timer_create", timer_create(CLOCK_MONOTONIC, &event, &timer), 0);
    struct itimerspec once = {{0, 0}, {0, 2000000}}, now;
    CHECK_EQ("timer_settime", timer_settime(timer, 0, &once, NULL), 0);
    wait_for(1);
    CHECK("signal, code and value", alarms == 1 && code == SI_TIMER && value == 77);
    CHECK("disarmed after", timer_gettime(timer, &now) == 0 && now.it_value.tv_nsec == 0 && now.it_value.tv_sec == 0);
    sigset_t set;
    sigemptyset(&set), sigaddset(&set, SIGRTMIN);
    sigprocmask(SIG_BLOCK, &set, NULL);
    struct itimerspec often = {{0, 1000000}, {0, 1000000}};
    alarms = 0;
    timer_settime(timer, 0, &often, NULL);
    sleep_ms(20);
    timer_settime(timer, 0, &(struct itimerspec){{0, 0}, {0, 0}}, NULL);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    CHECK("blocked: one signal at most, not twenty", alarms <= 1);
    once.it_value.tv_nsec = 1000000000;
    CHECK_ERRNO("bad time", timer_settime(timer, 0, &once, NULL), EINVAL);
    CHECK_EQ("timer_delete", timer_delete(timer), 0);
    CHECK_ERRNO("deleted", syscall(SYS_timer_gettime, 0x7777, &now), EINVAL);
    event.sigev_notify = 99;
    CHECK_ERRNO("bad notification", syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, &timer), EINVAL);
    CHECK_ERRNO("bad clock", syscall(SYS_timer_create, 999, NULL, &timer), EINVAL);
    struct sigevent none = {.sigev_notify = SIGEV_NONE};
    timer_create(CLOCK_REALTIME, &none, &timer);
    struct itimerspec far = {{0, 0}, {100, 0}};
    timer_settime(timer, 0, &far, NULL);
    CHECK("SIGEV_NONE counts down", timer_gettime(timer, &now) == 0 && now.it_value.tv_sec >= 98 && now.it_value.tv_sec <= 100);
    timer_delete(timer);
    struct sigevent work = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN, .sigev_value.sival_int = 5};
    timer_create(CLOCK_PROCESS_CPUTIME_ID, &work, &timer);
    alarms = 0;
    timer_settime(timer, 0, &(struct itimerspec){{0, 0}, {0, 10000000}}, NULL);
    int64_t start = now_ns(CLOCK_MONOTONIC);
    while (!alarms && now_ns(CLOCK_MONOTONIC) - start < 1500000000)
        ;
    CHECK("a CPU-time timer", alarms == 1 && value == 5);
    timer_delete(timer);
}

/* What is left of an interval when there is no time to wait. */
static void interval_alone(void)
{
    static const char *const names[] = {"ITIMER_REAL forgets it", "ITIMER_VIRTUAL keeps it", "ITIMER_PROF keeps it"};
    for (int which = ITIMER_REAL; which <= ITIMER_PROF; which++) {
        struct itimerval set = {{10, 0}, {0, 0}}, off = {{0, 0}, {0, 0}}, now;
        setitimer(which, &set, NULL);
        CHECK(names[which], getitimer(which, &now) == 0 && now.it_interval.tv_sec == (which ? 10 : 0) && now.it_value.tv_sec == 0);
        setitimer(which, &off, NULL);
    }
    struct itimerspec set = {{10, 0}, {0, 0}}, now;
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_NONE};
    timer_create(CLOCK_MONOTONIC, &event, &timer);
    timer_settime(timer, 0, &set, NULL);
    CHECK("a POSIX timer forgets it", timer_gettime(timer, &now) == 0 && now.it_interval.tv_sec == 0);
    timer_delete(timer);
    int fd = timerfd_create(CLOCK_MONOTONIC, 0);
    timerfd_settime(fd, 0, &set, NULL);
    CHECK("a timerfd keeps it", timerfd_gettime(fd, &now) == 0 && now.it_interval.tv_sec == 10);
    close(fd);
}

int main(void)
{
    interval_alone();
    interval();
    posix();
    return finish();
}
