/* cc: -static -pthread
 * rseq(2): registration, the CPU's number, and critical sections that a signal, another task or a lie ends. */
#include "../check.h"
#include "sections.h"
#include <sys/resource.h>
#include <sys/time.h>

static struct rseq *area;
static volatile int aborted, inside, once = 1;
static uintptr_t abort_handler, seen_pc;
static int status;

static long call(void *address, unsigned length, int flags, unsigned signature)
{
    return syscall(SYS_rseq, address, length, flags, signature);
}

static void registration(void)
{
    CHECK_ERRNO("registered already", call(area, 32, 0, RSEQ_SIG), EBUSY);
    CHECK_ERRNO("with another signature", call(area, 32, 0, RSEQ_SIG + 1), EPERM);
    CHECK_ERRNO("at another place", call((char *)area + 32, 32, 0, RSEQ_SIG), EINVAL);
    CHECK_ERRNO("bad flag", call(area, 32, 2, RSEQ_SIG), EINVAL);
    CHECK_ERRNO("unregister another place", call((char *)area + 32, 32, RSEQ_FLAG_UNREGISTER, RSEQ_SIG), EINVAL);
    CHECK_ERRNO("unregister with another signature", call(area, 32, RSEQ_FLAG_UNREGISTER, RSEQ_SIG + 1), EPERM);
    CHECK_EQ("unregister", call(area, 32, RSEQ_FLAG_UNREGISTER, RSEQ_SIG), 0);
    CHECK_EQ("the CPU is unknown then", (int)area->cpu_id, RSEQ_CPU_ID_UNINITIALIZED);
    CHECK_ERRNO("a place that is not aligned", call((char *)area + 8, 32, 0, RSEQ_SIG), EINVAL);
    CHECK_ERRNO("the kernel's memory", call((void *)0xffffffff80000000, 32, 0, RSEQ_SIG), EFAULT);
    CHECK_EQ("register again", call(area, 32, 0, RSEQ_SIG), 0);
    CHECK("the CPU is known again", area->cpu_id < 4096 && area->cpu_id_start == area->cpu_id);
}

/* Spin in a critical section until something ends it: then the abort handler counts. */
static __attribute__((noinline)) void spin(void)
{
    SECTION("good", RSEQ_SIG, aborted, abort_handler, *(uint64_t *)&area->rseq_cs, inside, once);
}

static __attribute__((noinline)) void spin_and_lie(void)
{
    SECTION("lie", 0x12345678, aborted, abort_handler, *(uint64_t *)&area->rseq_cs, inside, once);
}

static void on_alarm(int signo, siginfo_t *info, void *context)
{
    (void)signo, (void)info;
    if (seen_pc != abort_handler)
        seen_pc = PC_OF((ucontext_t *)context);
}

static void a_signal(void)
{
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM};
    catch_with(SIGALRM, on_alarm, 0);
    timer_create(CLOCK_MONOTONIC, &event, &timer);
    aborted = 0, seen_pc = 0;
    struct timespec wait = {.tv_nsec = 100000000}; /* again and again: the first one can come before the section begins */
    timer_settime(timer, 0, &(struct itimerspec){.it_value = wait, .it_interval = wait}, NULL);
    spin();
    bool early = !seen_pc; /* another task was before the signal */
    while (!seen_pc)
        sleep_ms(1);
    timer_delete(timer);
    CHECK_EQ("a signal ends a section", aborted, 1);
    CHECK_EQ("the pointer is cleared", (long)area->rseq_cs, 0);
    CHECK("the handler returns to the abort handler", early || seen_pc == abort_handler);
}

static void another_task(void)
{
    cpu_set_t mask, one;
    sched_getaffinity(0, sizeof mask, &mask);
    int cpu = 0;
    while (!CPU_ISSET(cpu, &mask))
        cpu++;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    sched_setaffinity(0, sizeof one, &one);
    CHECK("the number of the CPU it is bound to", (int)area->cpu_id == cpu && sched_getcpu() == cpu);
    pid_t pid = fork();
    if (pid == 0)
        for (volatile long n = 0;; n++)
            ;
    aborted = 0;
    spin();
    CHECK_EQ("another task on its CPU ends a section", aborted, 1);
    kill(pid, SIGKILL), waitpid(pid, &status, 0);
    sched_setaffinity(0, sizeof mask, &mask);
}

static void lies(void)
{
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    catch_with(SIGALRM, on_alarm, 0);
    setitimer(ITIMER_REAL, &(struct itimerval){.it_value.tv_usec = 20000}, NULL);
    spin_and_lie();
}

static void unmapped(void)
{
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    catch_with(SIGALRM, on_alarm, 0);
    call(area, 32, RSEQ_FLAG_UNREGISTER, RSEQ_SIG);
    void *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    call(page, 32, 0, RSEQ_SIG);
    munmap(page, PAGE);
    raise(SIGALRM);
}

static void inherited(void)
{
    CHECK_ERRNO("a fork has the registration", call(area, 32, 0, RSEQ_SIG), EBUSY);
    a_signal();
}

int main(void)
{
    area = registered_area();
    CHECK("an area is registered, by the C library or by us", area != NULL && (int)area->cpu_id >= 0);
    registration();
    a_signal();
    another_task();
    CHECK("after fork", exited(in_child(inherited), 0));
    CHECK("a section without its signature kills", killed(in_child(lies), SIGSEGV));
    CHECK("an area that is gone kills, too", killed(in_child(unmapped), SIGSEGV));
    return finish();
}
