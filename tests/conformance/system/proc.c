/* cc: -static
 * proc(5): what programs read of themselves and of the system. */
#include "../check.h"
#include <sys/vfs.h>

static char text[65536];

static const char *content(const char *path)
{
    int fd = open(path, O_RDONLY);
    ssize_t total = 0, n = 0;
    while (fd >= 0 && total < (ssize_t)sizeof text - 1 && (n = read(fd, text + total, sizeof text - 1 - (size_t)total)) > 0)
        total += n;
    close(fd);
    text[total] = 0;
    return text;
}

static long field(const char *path, const char *key)
{
    char *found = strstr(content(path), key);
    return found ? strtol(found + strlen(key), NULL, 10) : -1;
}

static void self(void)
{
    char path[64], target[PATH_MAX] = {0};
    snprintf(path, sizeof path, "%d", getpid());
    CHECK("/proc/self", readlink("/proc/self", target, 20) > 0 && strcmp(target, path) == 0);
    CHECK_EQ("status: Pid", field("/proc/self/status", "\nPid:\t"), getpid());
    CHECK_EQ("status: PPid", field("/proc/self/status", "\nPPid:\t"), getppid());
    CHECK_EQ("status: Uid", field("/proc/self/status", "\nUid:\t"), getuid());
    CHECK_EQ("status: Threads", field("/proc/self/status", "\nThreads:\t"), 1);
    CHECK("status: VmRSS", field("/proc/self/status", "\nVmRSS:") > 0);
    CHECK("status: State", strstr(content("/proc/self/status"), "\nState:\tR (running)\n") != NULL);
    CHECK("stat", atoi(content("/proc/self/stat")) == getpid() && strstr(text, ") R ") != NULL);
    int fields = 0;
    for (char *p = strrchr(text, ')'); *p; p++)
        fields += *p == ' ';
    CHECK_EQ("stat: 52 fields", fields, 50);
    CHECK("statm", strtol(content("/proc/self/statm"), NULL, 10) > 0);
    CHECK("cmdline", content("/proc/self/cmdline")[0] && text[strlen(text) - 1] != '\n');
    CHECK("environ", strstr(content("/proc/self/environ"), "CONFORMANCE=") != NULL || getenv("CONFORMANCE") == NULL);
    CHECK("cwd", readlink("/proc/self/cwd", target, sizeof target) > 0 && strncmp(target, check_scratch, strlen(check_scratch)) == 0);
    CHECK("root", readlink("/proc/self/root", target, sizeof target) == 1 && target[0] == '/');
    CHECK("limits", strstr(content("/proc/self/limits"), "Max open files") != NULL);
    CHECK("auxv", (content("/proc/self/auxv"), ((long *)text)[0] != 0));
    CHECK("mounts", strstr(content("/proc/self/mounts"), " / ") != NULL && strstr(text, "/proc proc ") != NULL);
    CHECK("mountinfo", strstr(content("/proc/self/mountinfo"), " / / ") != NULL || text[0]);
}

static void maps(void)
{
    char *page = mmap(NULL, 3 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(page + PAGE, PAGE, PROT_READ | PROT_WRITE);
    char want[64];
    snprintf(want, sizeof want, "%lx-%lx rw-p 00000000 00:00 0", (long)page + PAGE, (long)page + 2 * PAGE);
    CHECK("an area has its line", strstr(content("/proc/self/maps"), want) != NULL);
    CHECK("stack, heap, vdso", strstr(text, "[stack]") && strstr(text, "[heap]") && strstr(text, "[vdso]"));
    int fd = new_file("mapped", "x");
    mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
    CHECK("a file's name", strstr(content("/proc/self/maps"), "/mapped\n") && strstr(text, "r--s"));
    CHECK("smaps", strstr(content("/proc/self/smaps"), "\nRss:") != NULL);
    int mem = open("/proc/self/mem", O_RDWR);
    static volatile int word = 5;
    int value = 0, nine = 9;
    CHECK("mem: read", pread(mem, &value, 4, (off_t)&word) == 4 && value == 5);
    CHECK("mem: write", pwrite(mem, &nine, 4, (off_t)&word) == 4 && word == 9);
    CHECK("mem: unmapped", pread(mem, &value, 4, 0x10) == -1);
}

static void fds(void)
{
    char path[64], target[PATH_MAX] = {0};
    int fd = new_file("f", "0123456789");
    lseek(fd, 3, SEEK_SET);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    CHECK("link to a file", readlink(path, target, sizeof target) > 0 && strstr(target, "/f") != NULL);
    int again = open(path, O_RDONLY);
    CHECK("opening it opens the file anew", again >= 0 && lseek(again, 0, SEEK_CUR) == 0);
    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
    CHECK_EQ("fdinfo: pos", field(path, "pos:\t"), 3);
    int pipes[2];
    pipe(pipes);
    memset(target, 0, sizeof target);
    snprintf(path, sizeof path, "/proc/self/fd/%d", pipes[0]);
    CHECK("link to a pipe", readlink(path, target, sizeof target) > 0 && strncmp(target, "pipe:[", 6) == 0);
    int count = 0;
    DIR *dir = opendir("/proc/self/fd");
    for (struct dirent *e; (e = readdir(dir));)
        count += atoi(e->d_name) == fd || atoi(e->d_name) == again;
    closedir(dir);
    CHECK_EQ("the directory lists them", count, 2);
    CHECK("/dev/fd and /dev/stdin", readlink("/dev/fd", target, sizeof target) == 13 && access("/dev/stdin", F_OK) == 0);
}

static void mapped_files(void)
{
    char path[96], wrong[96], got[PATH_MAX];
    int fd = new_file("mapped", "x"), count = 0;
    ftruncate(fd, 2 * PAGE);
    char *at = mmap(NULL, 2 * PAGE, PROT_READ, MAP_PRIVATE, fd, 0);
    sprintf(path, "/proc/self/map_files/%lx-%lx", (long)at, (long)at + 2 * PAGE);
    ssize_t length = readlink(path, got, sizeof got - 1);
    CHECK("a mapping's file", length > 0 && (got[length] = 0, strcmp(strrchr(got, '/'), "/mapped") == 0));
    sprintf(wrong, "/proc/self/map_files/%lx-%lx", (long)at, (long)at + PAGE);
    CHECK_ERRNO("a part of it", readlink(wrong, got, sizeof got), ENOENT);
    sprintf(wrong, "/proc/self/map_files/0%lx-%lx", (long)at, (long)at + 2 * PAGE);
    CHECK_ERRNO("a zero before it", readlink(wrong, got, sizeof got), ENOENT);
    struct stat st;
    CHECK("its mode is that of the open file", lstat(path, &st) == 0 && S_ISLNK(st.st_mode) && (st.st_mode & 0777) == 0600);
    DIR *dir = opendir("/proc/self/map_files");
    for (struct dirent *entry; dir && (entry = readdir(dir));)
        count += strcmp(entry->d_name, strrchr(path, '/') + 1) == 0 && entry->d_type == DT_LNK;
    closedir(dir);
    CHECK_EQ("it is listed once", count, 1);
    if (IS_ROOT)
        CHECK("the privileged follow it", stat(path, &st) == 0 && st.st_size == 2 * PAGE);
    else
        CHECK_ERRNO("others do not follow it", stat(path, &st), EPERM);
    munmap(at, 2 * PAGE), close(fd);
    CHECK_ERRNO("no mapping", readlink(path, got, sizeof got), ENOENT);
}

static void own_call(void)
{
    char want[96], got[256] = "";
    int fd = open("/proc/self/syscall", O_RDONLY);
    sprintf(want, "%ld 0x%lx 0x%lx 0x%lx ", (long)SYS_read, (long)fd, (long)got, (long)sizeof got);
    CHECK("one's own call", syscall(SYS_read, fd, got, sizeof got) > 0 && strncmp(got, want, strlen(want)) == 0);
    close(fd);
}

/* Attributes of what the kernel makes: some cannot be changed. */
static void attributes(void)
{
    char path[64];
    sprintf(path, "/proc/%d", getpid());
    CHECK_ERRNO("chmod of a process", chmod(path, 0555), EPERM);
    CHECK_ERRNO("its files", chmod("/proc/self/stat", 0444), EPERM);
    CHECK_ERRNO("its directories", chmod("/proc/self/fd", 0500), EPERM);
    CHECK_ERRNO("chmod of a setting", chmod("/proc/sys/kernel/hostname", 0644), EPERM);
    CHECK_ERRNO("of a directory of settings", chmod("/proc/sys/kernel", 0555), EPERM);
    CHECK_ERRNO("chown of a setting", chown("/proc/sys/kernel/hostname", geteuid(), getegid()), EPERM);
}

/* Every number of smaps ends in the same column. */
static void columns(void)
{
    char line[256];
    int wrong = 0, numbers = 0;
    FILE *file = fopen("/proc/self/smaps", "r");
    while (fgets(line, sizeof line, file))
        if (line[0] >= 'A' && line[0] <= 'Z' && strstr(line, " kB\n"))
            numbers++, wrong += strstr(line, " kB\n") != line + 24;
    fclose(file);
    CHECK("smaps has columns", numbers > 20 && wrong == 0);
}

static void whole(void)
{
    CHECK("meminfo", field("/proc/meminfo", "MemTotal:") > 1000 && field("/proc/meminfo", "MemAvailable:") > 0);
    CHECK("cpuinfo", strstr(content("/proc/cpuinfo"), "processor\t: 0\n") != NULL);
    CHECK("stat", strncmp(content("/proc/stat"), "cpu ", 4) == 0 && field("/proc/stat", "\nbtime ") > 0);
    CHECK("uptime", strtod(content("/proc/uptime"), NULL) > 0);
    CHECK("loadavg", strchr(content("/proc/loadavg"), '/') != NULL);
    CHECK("version", strncmp(content("/proc/version"), "Linux version ", 14) == 0);
    CHECK("filesystems", strstr(content("/proc/filesystems"), "\ttmpfs\n") && strstr(text, "\tproc\n"));
    CHECK("sys/kernel/osrelease", content("/proc/sys/kernel/osrelease")[0] != 0);
    CHECK("sys/kernel/pid_max", atoi(content("/proc/sys/kernel/pid_max")) > 100);
    CHECK_EQ("sys/kernel/random/boot_id", strlen(content("/proc/sys/kernel/random/boot_id")), 37);
    struct statfs fs;
    CHECK("statfs type", statfs("/proc", &fs) == 0 && fs.f_type == 0x9fa0);
    CHECK_ERRNO("no such process", open("/proc/99999999/stat", O_RDONLY), ENOENT);
    CHECK_ERRNO("nothing can be made", open("/proc/new", O_CREAT | O_RDWR, 0644), ENOENT);
    pid_t child = fork();
    if (child == 0)
        _exit(0);
    waitid(P_PID, child, &(siginfo_t){0}, WEXITED | WNOWAIT);
    CHECK_EQ("a zombie", task_state(child), 'Z');
    waitpid(child, NULL, 0);
    CHECK_EQ("is gone after wait", task_state(child), 0);
}

int main(void)
{
    enter_scratch();
    free(malloc(200000));
    self();
    maps();
    fds();
    mapped_files();
    own_call();
    attributes();
    columns();
    whole();
    return finish();
}
