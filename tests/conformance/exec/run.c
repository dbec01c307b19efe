/* cc: -static
 * execve(2), execveat(2): arguments, environment, close-on-exec, signals, scripts, failures. */
#include "../check.h"
#include <sys/resource.h>

static char self[PATH_MAX];
static int status;

/* What the executed copy of this program does: argv[1] names the check. */
static int executed(int argc, char **argv, char **envp)
{
    const char *what = argv[1];
    if (strcmp(what, "args") == 0)
        return argc == 4 && strcmp(argv[0], "zero") == 0 && strcmp(argv[2], "") == 0 && strcmp(argv[3], "a b\n") == 0 &&
               strcmp(envp[0], "A=1") == 0 && strcmp(envp[1], "noequals") == 0 && !envp[2] ? 0 : 1;
    if (strcmp(what, "fds") == 0)
        return (fcntl(atoi(argv[2]), F_GETFD) == 0) + 2 * (fcntl(atoi(argv[3]), F_GETFD) == -1);
    if (strcmp(what, "signals") == 0) {
        sigset_t set;
        sigprocmask(SIG_BLOCK, NULL, &set);
        sigset_t waiting;
        sigpending(&waiting);
        return (signal(SIGUSR1, SIG_DFL) == SIG_IGN) + 2 * (signal(SIGUSR2, SIG_DFL) == SIG_DFL) +
               4 * sigismember(&set, SIGTERM) + 8 * sigismember(&waiting, SIGTERM) + 16 * (alarm(0) > 0);
    }
    if (strcmp(what, "count") == 0)
        return argc == 3002 && strlen(argv[3001]) == 3 ? 0 : 1;
    if (strcmp(what, "empty") == 0)
        return envp[0] == NULL ? 0 : 1;
    return 99;
}

static int run(char *const argv[], char *const envp[])
{
    pid_t pid = fork();
    if (pid == 0) {
        execve(self, argv, envp);
        _exit(98);
    }
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 200 + WTERMSIG(status);
}

static void contents(void)
{
    CHECK_EQ("arguments and environment", run((char *[]){"zero", "args", "", "a b\n", NULL}, (char *[]){"A=1", "noequals", NULL}), 0);
    CHECK_EQ("empty environment", run((char *[]){"x", "empty", NULL}, (char *[]){NULL}), 0);
    CHECK_EQ("null environment", run((char *[]){"x", "empty", NULL}, NULL), 0);
    char keep[8], drop[8];
    snprintf(keep, sizeof keep, "%d", open("/dev/null", O_RDONLY));
    snprintf(drop, sizeof drop, "%d", open("/dev/null", O_RDONLY | O_CLOEXEC));
    CHECK_EQ("close-on-exec", run((char *[]){"x", "fds", keep, drop, NULL}, NULL), 3);
    signal(SIGUSR1, SIG_IGN);
    signal(SIGUSR2, (void (*)(int))leave_scratch);
    sigset_t set;
    sigemptyset(&set), sigaddset(&set, SIGTERM);
    pid_t pid = fork();
    if (pid == 0) {
        sigprocmask(SIG_BLOCK, &set, NULL);
        raise(SIGTERM);
        alarm(100);
        execve(self, (char *[]){"x", "signals", NULL}, NULL);
        _exit(98);
    }
    waitpid(pid, &status, 0);
    CHECK("ignored, default, blocked, pending and alarm survive", exited(status, 31));
    static char *many[3003];
    for (int i = 0; i < 3002; i++)
        many[i] = "abc";
    many[1] = "count";
    CHECK_EQ("3000 arguments", run(many, NULL), 0);
}

static int script(const char *name, const char *text, char *const argv[])
{
    close(new_file(name, text));
    chmod(name, 0755);
    pid_t pid = fork();
    if (pid == 0) {
        execve(name, argv, NULL);
        _exit(errno == ENOEXEC ? 120 : errno == ENOENT ? 121 : errno == ELOOP ? 122 : errno == EACCES ? 123 : 124);
    }
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void scripts(void)
{
    char *argv[] = {"name", "7", NULL};
    WITH_SHELL("#!", CHECK_EQ("#!", script("s1", "#!/bin/sh\nexit $1\n", argv), 7));
    WITH_SHELL("#! with one argument",
               CHECK_EQ("#! with one argument", script("s2", "#!/bin/sh -e\nfalse\nexit 9\n", argv), 1));
    WITH_SHELL("blanks around", CHECK_EQ("blanks around", script("s3", "#!  /bin/sh   \nexit 5\n", argv), 5));
    WITH_SHELL("argv[0] is the script's path",
               CHECK_EQ("argv[0] is the script's path", script("./s4", "#!/bin/sh\n[ \"$0\" = ./s4 ] && exit 3\n", argv), 3));
    CHECK_EQ("missing interpreter", script("s5", "#!/no/such\n", argv), 121);
    CHECK_EQ("no interpreter named", script("s6", "#!\n", argv), 120);
    CHECK_EQ("text without #!", script("s7", "exit 0\n", argv), 120);
    CHECK_EQ("empty file", script("s8", "", argv), 120);
    char line[PATH_MAX + 8];
    close(new_file("s0", "#!/bin/sh\nexit 9\n")), chmod("s0", 0755);
    snprintf(line, sizeof line, "#!%s/s0\n", check_scratch);
    WITH_SHELL("a script's interpreter may be a script",
               CHECK_EQ("a script's interpreter may be a script", script("s9", line, argv), 9));
    snprintf(line, sizeof line, "#!%s/s10\n", check_scratch);
    CHECK_EQ("but not for ever", script("s10", line, argv), 122);
    WITH_SHELL("no final newline", CHECK_EQ("no final newline", script("s11", "#!/bin/true", argv), 0));
}

static void failures(void)
{
    char *argv[] = {"x", NULL};
    CHECK_ERRNO("missing", execve("none", argv, NULL), ENOENT);
    CHECK_ERRNO("directory", execve(".", argv, NULL), EACCES);
    close(new_file("plain", "#!/bin/sh\n"));
    CHECK_ERRNO("not executable", execve("plain", argv, NULL), EACCES);
    CHECK_ERRNO("through a file", execve("plain/x", argv, NULL), ENOTDIR);
    CHECK_ERRNO("bad path", execve((char *)8, argv, NULL), EFAULT);
    CHECK_ERRNO("bad argv", execve("/bin/true", (char **)8, NULL), EFAULT);
    CHECK_ERRNO("bad string", execve("/bin/true", (char *[]){(char *)8, NULL}, NULL), EFAULT);
    char *big = malloc(200000);
    memset(big, 'a', 199999), big[199999] = 0;
    CHECK_ERRNO("a string over 128 KiB", execve("/bin/true", (char *[]){"true", big, NULL}, NULL), E2BIG);
    int writer = open("/proc/self/exe", O_RDONLY), copy = open("copy", O_RDWR | O_CREAT, 0755);
    char block[65536];
    for (ssize_t n; (n = read(writer, block, sizeof block)) > 0;)
        write(copy, block, (size_t)n);
    CHECK_ERRNO("open for writing", execve("copy", argv, NULL), ETXTBSY);
    close(copy);
    int fd = open("copy", O_RDONLY | O_CLOEXEC);
    pid_t pid = fork();
    if (pid == 0) {
        syscall(SYS_execveat, fd, "", (char *[]){"x", "empty", NULL}, NULL, AT_EMPTY_PATH);
        _exit(98);
    }
    waitpid(pid, &status, 0);
    CHECK("execveat of a descriptor", exited(status, 0));
    CHECK_ERRNO("execveat without the flag", syscall(SYS_execveat, fd, "", argv, NULL, 0), ENOENT);
    symlink("copy", "link");
    CHECK_ERRNO("AT_SYMLINK_NOFOLLOW", syscall(SYS_execveat, AT_FDCWD, "link", argv, NULL, AT_SYMLINK_NOFOLLOW), ELOOP);
    CHECK_ERRNO("bad flags", syscall(SYS_execveat, fd, "copy", argv, NULL, 1), EINVAL);
}

int main(int argc, char **argv, char **envp)
{
    if (argc > 1)
        return executed(argc, argv, envp);
    self[readlink("/proc/self/exe", self, sizeof self - 1)] = 0;
    enter_scratch();
    contents();
    scripts();
    failures();
    return finish();
}
