/* cc: -static
 * prctl(2): machine checks, I/O helpers, timing, large pages, speculation; the memory map at once (PR_SET_MM_MAP).
 */
#include "../check.h"
#include <linux/prctl.h>
#include <sys/prctl.h>

/* What the architecture has no answer for. */
#ifdef __x86_64__
#define ON_X86_ERRNO ENODEV
#else
#define ON_X86_ERRNO EINVAL
#endif
#define OPTION(option, a, b, c, d) syscall(SYS_prctl, (long)(option), (long)(a), (long)(b), (long)(c), (long)(d))

static void machine_checks(void)
{
    CHECK_EQ("the default policy", OPTION(PR_MCE_KILL_GET, 0, 0, 0, 0), PR_MCE_KILL_DEFAULT);
    CHECK_EQ("early", OPTION(PR_MCE_KILL, PR_MCE_KILL_SET, PR_MCE_KILL_EARLY, 0, 0), 0);
    CHECK_EQ("is early", OPTION(PR_MCE_KILL_GET, 0, 0, 0, 0), PR_MCE_KILL_EARLY);
    pid_t pid = fork();
    if (pid == 0)
        _exit((int)OPTION(PR_MCE_KILL_GET, 0, 0, 0, 0));
    int status;
    waitpid(pid, &status, 0);
    CHECK("in a child, too", exited(status, PR_MCE_KILL_EARLY));
    CHECK_EQ("late", OPTION(PR_MCE_KILL, PR_MCE_KILL_SET, PR_MCE_KILL_LATE, 0, 0), 0);
    CHECK_EQ("is late", OPTION(PR_MCE_KILL_GET, 0, 0, 0, 0), PR_MCE_KILL_LATE);
    CHECK_ERRNO("a policy that is none", OPTION(PR_MCE_KILL, PR_MCE_KILL_SET, 3, 0, 0), EINVAL);
    CHECK_ERRNO("a way that is none", OPTION(PR_MCE_KILL, 2, 0, 0, 0), EINVAL);
    CHECK_ERRNO("clear takes nothing", OPTION(PR_MCE_KILL, PR_MCE_KILL_CLEAR, 1, 0, 0), EINVAL);
    CHECK_ERRNO("nor is anything unused", OPTION(PR_MCE_KILL, PR_MCE_KILL_SET, 0, 1, 0), EINVAL);
    CHECK_ERRNO("or asked with", OPTION(PR_MCE_KILL_GET, 1, 0, 0, 0), EINVAL);
    CHECK_EQ("clear", OPTION(PR_MCE_KILL, PR_MCE_KILL_CLEAR, 0, 0, 0), 0);
    CHECK_EQ("is the default", OPTION(PR_MCE_KILL_GET, 0, 0, 0, 0), PR_MCE_KILL_DEFAULT);
}

static void odds(void)
{
    CHECK_EQ("statistical timing", OPTION(PR_GET_TIMING, 0, 0, 0, 0), PR_TIMING_STATISTICAL);
    CHECK_EQ("is what can be set", OPTION(PR_SET_TIMING, PR_TIMING_STATISTICAL, 0, 0, 0), 0);
    CHECK_ERRNO("and no other", OPTION(PR_SET_TIMING, PR_TIMING_TIMESTAMP, 0, 0, 0), EINVAL);
    CHECK_EQ("counters off", OPTION(PR_TASK_PERF_EVENTS_DISABLE, 0, 0, 0, 0), 0);
    CHECK_EQ("counters on", OPTION(PR_TASK_PERF_EVENTS_ENABLE, 0, 0, 0, 0), 0);
    CHECK_ERRNO("no such option", OPTION(1234, 0, 0, 0, 0), EINVAL);
    CHECK_ERRNO("unaligned accesses are not asked about here", OPTION(PR_SET_UNALIGN, PR_UNALIGN_SIGBUS, 0, 0, 0), EINVAL);
    if (!IS_ROOT) {
        CHECK_ERRNO("I/O helpers are privileged", OPTION(PR_SET_IO_FLUSHER, 1, 0, 0, 0), EPERM);
        CHECK_ERRNO("asking, too", OPTION(PR_GET_IO_FLUSHER, 0, 0, 0, 0), EPERM);
        CHECK_ERRNO("the memory map, field by field", OPTION(PR_SET_MM, PR_SET_MM_BRK, 0x10000000, 0, 0), EPERM);
    }
}

static bool says(const char *path, const char *what)
{
    static char text[8192];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = read(fd, text, sizeof text - 1);
    close(fd);
    text[length < 0 ? 0 : length] = 0;
    return strstr(text, what) != NULL;
}

static void large_pages(void)
{
    CHECK_EQ("large pages are allowed", OPTION(PR_GET_THP_DISABLE, 0, 0, 0, 0), 0);
    CHECK_ERRNO("asked with nothing else", OPTION(PR_GET_THP_DISABLE, 1, 0, 0, 0), EINVAL);
    CHECK_ERRNO("or set", OPTION(PR_SET_THP_DISABLE, 1, 0, 1, 0), EINVAL);
    CHECK_EQ("forbid them", OPTION(PR_SET_THP_DISABLE, 1, 0, 0, 0), 0);
    CHECK_EQ("forbidden", OPTION(PR_GET_THP_DISABLE, 0, 0, 0, 0), 1);
    CHECK("as status says", says("/proc/self/status", "THP_enabled:\t0"));
    char *area = mmap(NULL, 4 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    madvise(area, 4 << 20, MADV_HUGEPAGE);
    memset(area, 1, 4 << 20);
    CHECK("there are none", says("/proc/self/smaps_rollup", "AnonHugePages:         0 kB"));
    munmap(area, 4 << 20);
    pid_t pid = fork();
    if (pid == 0) {
        execl("/proc/self/exe", "prctl", "large", NULL);
        _exit(9);
    }
    int status;
    waitpid(pid, &status, 0);
    CHECK("nor for what is run", exited(status, 1));
    CHECK_EQ("allow them", OPTION(PR_SET_THP_DISABLE, 0, 0, 0, 0), 0);
    CHECK("allowed", OPTION(PR_GET_THP_DISABLE, 0, 0, 0, 0) == 0 && says("/proc/self/status", "THP_enabled:\t1"));
}

static void speculation(void)
{
    CHECK_ERRNO("a weakness that is none", OPTION(PR_GET_SPECULATION_CTRL, 99, 0, 0, 0), ON_X86_ERRNO);
    CHECK_ERRNO("or to set", OPTION(PR_SET_SPECULATION_CTRL, 99, PR_SPEC_ENABLE, 0, 0), ON_X86_ERRNO);
    CHECK_ERRNO("nothing else", OPTION(PR_GET_SPECULATION_CTRL, 0, 1, 0, 0), EINVAL);
    CHECK_ERRNO("to set, either", OPTION(PR_SET_SPECULATION_CTRL, 0, PR_SPEC_ENABLE, 1, 0), EINVAL);
#ifdef __x86_64__
    long branches = OPTION(PR_GET_SPECULATION_CTRL, PR_SPEC_INDIRECT_BRANCH, 0, 0, 0);
    CHECK("indirect branches", branches >= 0);
    CHECK_ERRNO("a control that is none", OPTION(PR_SET_SPECULATION_CTRL, PR_SPEC_INDIRECT_BRANCH, 32, 0, 0), ERANGE);
    CHECK("stores", OPTION(PR_GET_SPECULATION_CTRL, PR_SPEC_STORE_BYPASS, 0, 0, 0) >= 0);
    CHECK_EQ("the cache is not flushed", OPTION(PR_GET_SPECULATION_CTRL, PR_SPEC_L1D_FLUSH, 0, 0, 0), PR_SPEC_FORCE_DISABLE);
    CHECK_ERRNO("nor will be", OPTION(PR_SET_SPECULATION_CTRL, PR_SPEC_L1D_FLUSH, PR_SPEC_ENABLE, 0, 0), EPERM);
#endif
}

static unsigned long field(int number)
{
    char text[2048];
    int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
    ssize_t length = read(fd, text, sizeof text - 1);
    close(fd);
    text[length < 0 ? 0 : length] = 0;
    char *at = strrchr(text, ')');
    for (int i = 2; at && i < number; i++)
        at = strchr(at + 1, ' ');
    return at ? strtoul(at, NULL, 10) : 0;
}

static struct prctl_mm_map map_now(void)
{
    struct prctl_mm_map map = {
        .start_code = field(26), .end_code = field(27), .start_data = field(45), .end_data = field(46),
        .start_brk = field(47), .brk = (unsigned long)sbrk(0), .start_stack = field(28), .arg_start = field(48),
        .arg_end = field(49), .env_start = field(50), .env_end = field(51), .auxv_size = 0, .exe_fd = (unsigned)-1,
    };
    return map;
}

static long set_map(struct prctl_mm_map *map)
{
    return OPTION(PR_SET_MM, PR_SET_MM_MAP, map, sizeof *map, 0);
}

static void memory_map(void)
{
    unsigned size = 0;
    CHECK("how large the map is", OPTION(PR_SET_MM, PR_SET_MM_MAP_SIZE, &size, 0, 0) == 0 && size == sizeof(struct prctl_mm_map));
    struct prctl_mm_map map = map_now(), other = map;
    CHECK_EQ("the same again", set_map(&map), 0);
    CHECK_ERRNO("another size", OPTION(PR_SET_MM, PR_SET_MM_MAP, &map, sizeof map - 8, 0), EINVAL);
    CHECK_ERRNO("a bad address", OPTION(PR_SET_MM, PR_SET_MM_MAP, 16, sizeof map, 0), EFAULT);
    CHECK_ERRNO("something unused", OPTION(PR_SET_MM, PR_SET_MM_MAP, &map, sizeof map, 1), EINVAL);
    other.end_code = other.start_code;
    CHECK_ERRNO("no code", set_map(&other), EINVAL);
    other = map, other.arg_end = other.arg_start - 1;
    CHECK_ERRNO("arguments that end before they begin", set_map(&other), EINVAL);
    other = map, other.env_start = 4096 - 1;
    CHECK_ERRNO("an address that is too low", set_map(&other), EINVAL);
    other = map, other.start_stack = ~0ul;
    CHECK_ERRNO("and too high", set_map(&other), EINVAL);
    other = map, other.auxv_size = 8;
    CHECK_ERRNO("a vector that is nowhere", set_map(&other), EINVAL);
    static unsigned long vector[600] = {6, 4096, 0, 0};
    other = map, other.auxv = (void *)vector, other.auxv_size = sizeof vector;
    CHECK_ERRNO("or too long", set_map(&other), EINVAL);
    CHECK("nothing changed", field(26) == map.start_code && field(28) == map.start_stack && field(48) == map.arg_start);
    static const char title[] = "another\0title";
    char *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); /* a file's would not be shown */
    memcpy(page, title, sizeof title);
    other = map, other.arg_start = (unsigned long)page, other.arg_end = other.arg_start + sizeof title;
    other.auxv = (void *)vector, other.auxv_size = 32;
    CHECK_EQ("another command line, another vector", set_map(&other), 0);
    char text[64];
    int fd = open("/proc/self/cmdline", O_RDONLY);
    CHECK("the command line", read(fd, text, sizeof text) == sizeof title && memcmp(text, title, sizeof title) == 0);
    close(fd);
    fd = open("/proc/self/auxv", O_RDONLY);
    CHECK("the vector", read(fd, text, sizeof text) == 32 && memcmp(text, vector, 32) == 0);
    close(fd);
    CHECK_EQ("as it was", set_map(&map), 0);
    if (!IS_ROOT) {
        fd = open("/proc/self/exe", O_RDONLY);
        other = map, other.exe_fd = (unsigned)fd;
        CHECK_ERRNO("another program is privileged", set_map(&other), EPERM);
        close(fd);
    } else {
        other = map, other.exe_fd = 999;
        CHECK_ERRNO("a program that is not open", set_map(&other), EBADF);
        other.exe_fd = (unsigned)(fd = open(".", O_RDONLY));
        CHECK_ERRNO("a directory is no program", set_map(&other), EACCES);
        close(fd);
        other.exe_fd = (unsigned)(fd = open("/etc/passwd", O_RDONLY));
        CHECK_ERRNO("nor is what cannot be run", set_map(&other), EACCES);
        close(fd);
        other.exe_fd = (unsigned)(fd = open("/proc/self/exe", O_RDONLY));
        CHECK_ERRNO("the old one is mapped still", set_map(&other), EBUSY);
        close(fd);
    }
}

/* All of user space as code, data, heap, arguments and environment: nobody who looks, or ends, may be harmed. */
static void everything(void)
{
    static const char *const files[] = {"cmdline", "environ", "auxv", "maps", "smaps", "stat", "status", "statm"};
    const unsigned long low = 65536, high = 1ul << 37; /* within every architecture's user space */
    struct prctl_mm_map map = {
        .start_code = low, .end_code = high, .start_data = low, .end_data = high, .start_brk = low, .brk = high,
        .start_stack = high, .arg_start = low, .arg_end = high, .env_start = low, .env_end = high, .exe_fd = (unsigned)-1,
    };
    char text[64];
    bool good = set_map(&map) == 0;
    for (unsigned i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(text, sizeof text, "/proc/self/%s", files[i]);
        int fd = open(text, O_RDONLY);
        good &= fd >= 0 && read(fd, text, sizeof text) >= 0;
        close(fd);
    }
    CHECK("can be said to be everything", good);
    pid_t pid = fork();
    if (pid == 0)
        abort();
    int status;
    waitpid(pid, &status, 0);
    CHECK("a child ends with a core", killed(status, SIGABRT));
}

int main(int argc, char **argv)
{
    (void)argv;
    if (argc > 1)
        return (int)OPTION(PR_GET_THP_DISABLE, 0, 0, 0, 0);
    enter_scratch();
    machine_checks();
    odds();
    large_pages();
    speculation();
    memory_map();
    CHECK("a map of everything", exited(in_child(everything), 0));
    return finish();
}
