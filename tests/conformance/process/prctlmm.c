/* cc: -static
 * prctl(2): PR_SET_MM field by field and PR_SET_IO_FLUSHER, for who has CAP_SYS_RESOURCE; PR_SET_VMA.
 */
#include "../check.h"
#include <linux/capability.h>
#include <linux/prctl.h>
#include <sys/prctl.h>

#define OPTION(option, a, b, c, d) syscall(SYS_prctl, (long)(option), (long)(a), (long)(b), (long)(c), (long)(d))
#define FIELD(which, value) OPTION(PR_SET_MM, which, value, 0, 0)
#define NAME(at, length, name) OPTION(0x53564d41, 0, at, length, name)

static bool capable(int cap)
{
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2] = {0};
    syscall(SYS_capget, &header, data);
    return data[cap / 32].effective >> cap % 32 & 1;
}

static char text[1 << 16];

static const char *whole(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t length = 0;
    for (ssize_t got; (got = read(fd, text + length, sizeof text - 1 - length)) > 0;)
        length += (size_t)got;
    close(fd);
    text[length] = 0;
    return text;
}

static void fields(void)
{
    unsigned long here = (unsigned long)mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK_ERRNO("a field that is none", FIELD(99, here), EINVAL);
    CHECK_ERRNO("something unused", OPTION(PR_SET_MM, PR_SET_MM_ARG_START, here, 1, 0), EINVAL);
    CHECK_ERRNO("an address that is too low", FIELD(PR_SET_MM_ARG_START, 16), EINVAL);
    CHECK_ERRNO("no address of user space", FIELD(PR_SET_MM_ARG_START, ~0ul), EINVAL);
    CHECK_ERRNO("an end before the beginning", FIELD(PR_SET_MM_ARG_END, here), EINVAL);
    strcpy((char *)here, "new");
    CHECK("arguments elsewhere", FIELD(PR_SET_MM_ARG_START, here) == 0 && FIELD(PR_SET_MM_ARG_END, here + 4) == 0);
    CHECK("show", strcmp(whole("/proc/self/cmdline"), "new") == 0);
    CHECK("environment elsewhere", FIELD(PR_SET_MM_ENV_START, here) == 0 && FIELD(PR_SET_MM_ENV_END, here + 4) == 0);
    CHECK("shows", strcmp(whole("/proc/self/environ"), "new") == 0);
    unsigned long end = (unsigned long)sbrk(0);
    CHECK_EQ("the break", FIELD(PR_SET_MM_BRK, end + PAGE), 0);
    CHECK("is there", (unsigned long)syscall(SYS_brk, 0) == end + PAGE);
    CHECK_EQ("back", FIELD(PR_SET_MM_BRK, end), 0);
    unsigned long vector[4] = {6, 4096, 0, 0};
    CHECK_ERRNO("no vector", OPTION(PR_SET_MM, PR_SET_MM_AUXV, 0, 32, 0), EINVAL);
    CHECK_ERRNO("a long one", OPTION(PR_SET_MM, PR_SET_MM_AUXV, vector, 4096, 0), EINVAL);
    CHECK_EQ("a vector", OPTION(PR_SET_MM, PR_SET_MM_AUXV, vector, 32, 0), 0);
    CHECK("shows, too", memcmp(whole("/proc/self/auxv"), vector, 32) == 0);
    int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    CHECK_ERRNO("the program is mapped", FIELD(PR_SET_MM_EXE_FILE, fd), EBUSY);
    CHECK_ERRNO("no file", FIELD(PR_SET_MM_EXE_FILE, 999), EBADF);
    close(fd);
}

static void flusher(void)
{
    CHECK_EQ("no helper", OPTION(PR_GET_IO_FLUSHER, 0, 0, 0, 0), 0);
    CHECK_EQ("be one", OPTION(PR_SET_IO_FLUSHER, 1, 0, 0, 0), 0);
    CHECK_EQ("is one", OPTION(PR_GET_IO_FLUSHER, 0, 0, 0, 0), 1);
    CHECK_ERRNO("what is neither", OPTION(PR_SET_IO_FLUSHER, 2, 0, 0, 0), EINVAL);
    CHECK_EQ("be none", OPTION(PR_SET_IO_FLUSHER, 0, 0, 0, 0), 0);
}

static int lines_with(const char *what)
{
    int count = 0;
    for (const char *at = whole("/proc/self/maps"); (at = strstr(at, what)); at++)
        count++;
    return count;
}

static void names(void)
{
    char *area = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK_EQ("a name", NAME(area, 4 * PAGE, "name of it"), 0);
    CHECK_EQ("shows once", lines_with("[anon:name of it]"), 1);
    CHECK_EQ("another in the middle", NAME(area + PAGE, PAGE, "other"), 0);
    CHECK("parts it", lines_with("[anon:name of it]") == 2 && lines_with("[anon:other]") == 1);
    pid_t pid = fork();
    if (pid == 0)
        _exit(lines_with("[anon:name of it]") == 2 ? 0 : 1);
    int status;
    waitpid(pid, &status, 0);
    CHECK("a child's memory has it", exited(status, 0));
    CHECK_EQ("the first again", NAME(area + PAGE, PAGE, "name of it"), 0);
    CHECK_EQ("joins them", lines_with("[anon:name of it]"), 1);
    CHECK_ERRNO("a letter that may not be", NAME(area, PAGE, "a[b"), EINVAL);
    CHECK_ERRNO("nor one that cannot be seen", NAME(area, PAGE, "a\nb"), EINVAL);
    char longest[90];
    memset(longest, 'x', 80), longest[80] = 0;
    CHECK_ERRNO("80 letters", NAME(area, PAGE, longest), EINVAL);
    longest[79] = 0;
    CHECK_EQ("79 letters", NAME(area, PAGE, longest), 0);
    CHECK_ERRNO("a name that is nowhere", NAME(area, PAGE, (char *)16), EFAULT);
    CHECK_ERRNO("the middle of a page", NAME(area + 1, PAGE, "n"), EINVAL);
    CHECK_EQ("nothing", NAME(area, 0, "n"), 0);
    munmap(area + 2 * PAGE, PAGE);
    CHECK_ERRNO("with a hole", NAME(area, 4 * PAGE, "holed"), ENOMEM);
    CHECK_EQ("but around it", lines_with("[anon:holed]"), 2);
    CHECK_EQ("no name", NAME(area, PAGE, NULL), 0);
    CHECK_EQ("is gone from there", lines_with("[anon:holed]"), 2);
    munmap(area + PAGE, PAGE);
    CHECK_EQ("with its page", lines_with("[anon:holed]"), 1);
    CHECK_ERRNO("a file's memory", NAME((unsigned long)names & -PAGE, PAGE, "n"), EBADF);
}

int main(void)
{
    bool named = NAME(0, 0, NULL) == 0;
    if (!capable(CAP_SYS_RESOURCE) || !named)
        say("skip everything: no CAP_SYS_RESOURCE, or a kernel without CONFIG_ANON_VMA_NAME\n");
    enter_scratch();
    if (named)
        names();
    if (capable(CAP_SYS_RESOURCE)) {
        flusher();
        fields();
    }
    return finish();
}
