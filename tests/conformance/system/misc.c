/* cc: -static
 * uname(2), sysinfo(2), getrandom(2), getrlimit(2), prlimit(2), sched_*(2), getcpu(2), personality(2), unknown calls. */
#include "../check.h"
#include <linux/capability.h>
#include <sys/personality.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>

static void names(void)
{
    struct utsname name;
    CHECK_EQ("uname", uname(&name), 0);
    CHECK("Linux on this machine", strcmp(name.sysname, "Linux") == 0 && strcmp(name.machine, MACHINE) == 0);
    int major = 0, minor = 0;
    CHECK("a release of at least 5.10", sscanf(name.release, "%d.%d", &major, &minor) == 2 && major * 100 + minor >= 510);
    char host[65];
    CHECK("gethostname agrees", gethostname(host, sizeof host) == 0 && strcmp(host, name.nodename) == 0);
    CHECK_ERRNO("bad pointer", syscall(SYS_uname, 8), EFAULT);
    struct sysinfo info;
    CHECK("sysinfo", sysinfo(&info) == 0 && info.totalram * info.mem_unit > 16 << 20 && info.procs > 0 && info.uptime >= 0);
}

static void randoms(void)
{
    unsigned char a[64] = {0}, b[64] = {0};
    CHECK("getrandom", getrandom(a, 64, 0) == 64 && getrandom(b, 64, GRND_NONBLOCK) == 64 && memcmp(a, b, 64) != 0);
    CHECK_ERRNO("bad flags", getrandom(a, 64, 0x80), EINVAL);
    CHECK_ERRNO("bad pointer", getrandom((void *)8, 64, 0), EFAULT);
    int fd = open("/dev/urandom", O_RDONLY);
    CHECK("/dev/urandom", read(fd, b, 64) == 64 && memcmp(a, b, 64) != 0);
    CHECK("/dev/null and /dev/zero", ({
              int null = open("/dev/null", O_RDWR), zero = open("/dev/zero", O_RDWR);
              read(null, a, 64) == 0 && write(null, a, 64) == 64 && read(zero, a, 64) == 64 && a[0] + a[63] == 0;
          }));
    fd = open("/dev/full", O_RDWR);
    CHECK_ERRNO("/dev/full", write(fd, a, 1), ENOSPC);
}

static void limits(void)
{
    struct rlimit limit, lower = {100, 200};
    CHECK_EQ("getrlimit", getrlimit(RLIMIT_NOFILE, &limit), 0);
    CHECK("lower both", setrlimit(RLIMIT_NOFILE, &lower) == 0 && getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur == 100);
    lower.rlim_cur = 201;
    CHECK_ERRNO("soft above hard", setrlimit(RLIMIT_NOFILE, &lower), EINVAL);
    CHECK_ERRNO("bad resource", getrlimit(77, &limit), EINVAL);
    CHECK("prlimit of itself", prlimit(0, RLIMIT_NOFILE, NULL, &limit) == 0 && limit.rlim_max == 200);
    CHECK_ERRNO("prlimit of nobody", prlimit(0x3fffffff, RLIMIT_NOFILE, NULL, &limit), ESRCH);
    if (!IS_ROOT)
        CHECK_ERRNO("raise the hard one", setrlimit(RLIMIT_NOFILE, &(struct rlimit){100, 300}), EPERM);
    else
        SKIP("raise the hard one", "needs CAP_SYS_RESOURCE, which not every root has");
    struct rusage usage;
    volatile char *fresh = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    *fresh = 1;
    CHECK("getrusage", getrusage(RUSAGE_SELF, &usage) == 0 && usage.ru_maxrss > 0 && usage.ru_minflt > 0);
    CHECK_ERRNO("getrusage of whom", getrusage(9, &usage), EINVAL);
}

static void spend(void)
{
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    setrlimit(RLIMIT_CPU, &(struct rlimit){0, 0});
    for (volatile long n = 0;; n++)
        ;
}

static void schedule(void)
{
    cpu_set_t set, one;
    CHECK("sched_getaffinity", sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) >= 1);
    int first = 0;
    while (!CPU_ISSET(first, &set))
        first++;
    CPU_ZERO(&one);
    CPU_SET(first, &one);
    CHECK_EQ("sched_setaffinity", sched_setaffinity(0, sizeof one, &one), 0);
    CHECK_EQ("runs there", sched_getcpu(), first);
    CPU_ZERO(&one);
    CHECK_ERRNO("an empty set", sched_setaffinity(0, sizeof one, &one), EINVAL);
    CHECK_ERRNO("too short a set", sched_getaffinity(0, 1, &set), EINVAL);
    CHECK("yield, policy", sched_yield() == 0 && sched_getscheduler(0) == SCHED_OTHER);
    struct sched_param param = {.sched_priority = 0};
    CHECK_EQ("SCHED_BATCH", sched_setscheduler(0, SCHED_BATCH, &param), 0);
    param.sched_priority = 5;
    CHECK_ERRNO("a priority it cannot have", sched_setscheduler(0, SCHED_OTHER, &param), EINVAL);
    CHECK("ranges", sched_get_priority_max(SCHED_FIFO) == 99 && sched_get_priority_min(SCHED_RR) == 1);
    CHECK_ERRNO("nobody", sched_getscheduler(0x3fffffff), ESRCH);
    CHECK("nice", getpriority(PRIO_PROCESS, 0) == 0 && nice(5) == 5 && getpriority(PRIO_PROCESS, 0) == 5);
}

/* Pid 1 is there for everybody: what may be asked of any process may be asked of it. */
static void about_init(void)
{
    struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 1};
    struct __user_cap_data_struct data[2] = {{0}};
    struct rlimit limit;
    struct sched_param param;
    struct timespec slice;
    CHECK("capget", syscall(SYS_capget, &head, data) == 0 && data[0].permitted);
    CHECK_EQ("kill", kill(1, 0), IS_ROOT ? 0 : -1);
    CHECK_EQ("tgkill", syscall(SYS_tgkill, 1, 1, 0), IS_ROOT ? 0 : -1);
    CHECK("getpriority", (errno = 0, getpriority(PRIO_PROCESS, 1)) >= -20 && !errno);
    CHECK("ioprio_get", syscall(SYS_ioprio_get, 1, 1) >= 0);
    CHECK("scheduling", sched_getscheduler(1) >= 0 && sched_getparam(1, &param) == 0 && sched_rr_get_interval(1, &slice) == 0);
    if (IS_ROOT)
        CHECK_EQ("prlimit", prlimit(1, RLIMIT_NOFILE, NULL, &limit), 0);
    else
        CHECK_ERRNO("prlimit", prlimit(1, RLIMIT_NOFILE, NULL, &limit), EPERM);
    CHECK_ERRNO("nobody's limits", prlimit(0x3fffffff, RLIMIT_NOFILE, NULL, &limit), ESRCH);
}

/* The innermost cache of a CPU: its size is what its sets and lines make. */
static long of_cache(const char *name)
{
    char path[128];
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index0/%s", name);
    FILE *file = fopen(path, "re");
    long value = -1;
    if (file && fscanf(file, "%ld", &value) != 1)
        value = -1;
    if (file)
        fclose(file);
    return value;
}

static bool caches_add_up(void)
{
    if (access("/sys/devices/system/cpu/cpu0/cache/index0/size", R_OK))
        return true; /* nothing is known of this CPU's */
    long lines = of_cache("number_of_sets") * of_cache("ways_of_associativity");
    return of_cache("level") == 1 && of_cache("size") << 10 == lines * of_cache("coherency_line_size");
}

int main(void)
{
    names();
    randoms();
    about_init();
    ON_X86("a cache's size", CHECK("a cache's size", caches_add_up()));
    CHECK("limits", exited(in_child(limits), 0));
    CHECK("RLIMIT_CPU kills", WIFSIGNALED(in_child(spend)));
    CHECK("scheduling", exited(in_child(schedule), 0));
    CHECK_ERRNO("an unknown call", syscall(999), ENOSYS);
    CHECK_ERRNO("a negative one", syscall(-1), ENOSYS);
    CHECK_ERRNO("a far one", syscall(1 << 30 | 5), ENOSYS);
    CHECK_EQ("personality", personality(0xffffffff), 0);
    CHECK("ADDR_NO_RANDOMIZE is kept", personality(ADDR_NO_RANDOMIZE) == 0 && personality(0xffffffff) == ADDR_NO_RANDOMIZE);
    return finish();
}
