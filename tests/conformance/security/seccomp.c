/* cc: -pthread; only x86_64
 * seccomp(2): strict mode, filters and every action, inheritance, no_new_privs, TSYNC.
 */
#include "../check.h"
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <ucontext.h>

#ifdef __x86_64__
#define AUDIT_HERE AUDIT_ARCH_X86_64
#define NUMBER gregs[REG_RAX]
#define RESULT gregs[REG_RAX]
#else
#define AUDIT_HERE AUDIT_ARCH_RISCV64
#define NUMBER __gregs[REG_A0 + 7]
#define RESULT __gregs[REG_A0]
#endif
#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define RETURN(value) BPF_STMT(BPF_RET | BPF_K, value)
#define IF_CALL(name, action) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##name, 0, 1), RETURN(action)
#define LENGTH(array) (sizeof(array) / sizeof *(array))

static long seccomp(unsigned operation, unsigned flags, void *args)
{
    return syscall(SYS_seccomp, operation, flags, args);
}

static long install(struct sock_filter *code, size_t count, unsigned flags)
{
    struct sock_fprog program = {.len = (unsigned short)count, .filter = code};
    return seccomp(SECCOMP_SET_MODE_FILTER, flags, &program);
}

static void strict_ok(void)
{
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT);
    write(1, "ok strict write\n", 16);
    syscall(SYS_exit, 0);
}

static void strict_bad(void)
{
    seccomp(SECCOMP_SET_MODE_STRICT, 0, NULL);
    syscall(SYS_getpid);
}

static void strict(void)
{
    CHECK_EQ("mode 0", prctl(PR_GET_SECCOMP), 0);
    CHECK("strict: allowed calls", exited(in_child(strict_ok), 0));
    CHECK("strict: any other", killed(in_child(strict_bad), SIGKILL));
    CHECK_ERRNO("strict takes no flags", seccomp(SECCOMP_SET_MODE_STRICT, 1, NULL), EINVAL);
    CHECK_ERRNO("no such mode", prctl(PR_SET_SECCOMP, 3, NULL), EINVAL);
    CHECK_ERRNO("no such operation", seccomp(99, 0, NULL), EINVAL);
}

static void actions_known(void)
{
    unsigned known[] = {SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_KILL_THREAD, SECCOMP_RET_TRAP, SECCOMP_RET_ERRNO,
                        SECCOMP_RET_TRACE, SECCOMP_RET_LOG, SECCOMP_RET_ALLOW};
    for (size_t i = 0; i < LENGTH(known); i++)
        CHECK_EQ("action", seccomp(SECCOMP_GET_ACTION_AVAIL, 0, &known[i]), 0);
    unsigned other = 0x12340000;
    CHECK_ERRNO("no such action", seccomp(SECCOMP_GET_ACTION_AVAIL, 0, &other), EOPNOTSUPP);
    CHECK_ERRNO("flags", seccomp(SECCOMP_GET_ACTION_AVAIL, 1, &other), EINVAL);
    CHECK_ERRNO("bad address", seccomp(SECCOMP_GET_ACTION_AVAIL, 0, (void *)8), EFAULT);
}

static void bad_programs(void)
{
    struct sock_filter no_return[] = {LOAD(nr)};
    struct sock_filter beyond[] = {BPF_STMT(BPF_JMP | BPF_JA, 5), RETURN(SECCOMP_RET_ALLOW)};
    struct sock_filter unaligned[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 2), RETURN(SECCOMP_RET_ALLOW)};
    struct sock_filter outside[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 64), RETURN(SECCOMP_RET_ALLOW)};
    struct sock_filter halfword[] = {BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 0), RETURN(SECCOMP_RET_ALLOW)};
    struct sock_filter zero[] = {BPF_STMT(BPF_ALU | BPF_DIV | BPF_K, 0), RETURN(SECCOMP_RET_ALLOW)};
    struct sock_filter shift[] = {BPF_STMT(BPF_ALU | BPF_LSH | BPF_K, 32), RETURN(SECCOMP_RET_ALLOW)};
    struct sock_filter unset[] = {BPF_STMT(BPF_LD | BPF_MEM, 3), RETURN(SECCOMP_RET_ALLOW)};
    struct sock_filter memory[] = {BPF_STMT(BPF_ST, 16), RETURN(SECCOMP_RET_ALLOW)};
    struct sock_filter modulo[] = {BPF_STMT(BPF_ALU | BPF_MOD | BPF_K, 3), RETURN(SECCOMP_RET_ALLOW)};
    struct sock_filter one_way[] = {LOAD(nr), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 1, 0, 1), BPF_STMT(BPF_ST, 0),
                                    BPF_STMT(BPF_LD | BPF_MEM, 0), RETURN(SECCOMP_RET_ALLOW)};
#define BAD(array) CHECK_ERRNO(#array, install(array, LENGTH(array), 0), EINVAL)
    BAD(no_return);
    BAD(beyond);
    BAD(unaligned);
    BAD(outside);
    BAD(halfword);
    BAD(zero);
    BAD(shift);
    BAD(unset);
    BAD(memory);
    BAD(modulo);
    BAD(one_way);
    CHECK_ERRNO("empty", install(zero, 0, 0), EINVAL);
    CHECK_ERRNO("too long", install(zero, 4097, 0), EINVAL);
    CHECK_ERRNO("bad program", seccomp(SECCOMP_SET_MODE_FILTER, 0, (void *)8), EFAULT);
    CHECK_ERRNO("bad code", install((void *)8, 1, 0), EFAULT);
    CHECK_ERRNO("bad flags", install(zero, 2, 1u << 20), EINVAL);
}

static volatile siginfo_t trapped;
static volatile long trapped_number;

static void on_trap(int signo, siginfo_t *info, void *context)
{
    (void)signo;
    trapped = *info;
    mcontext_t *machine = &((ucontext_t *)context)->uc_mcontext;
    trapped_number = machine->NUMBER;
    machine->RESULT = 4711;
}

static void filtered(void)
{
    struct sock_filter code[] = {
        LOAD(arch),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_HERE, 1, 0),
        RETURN(SECCOMP_RET_KILL_PROCESS),
        LOAD(nr),
        IF_CALL(getppid, SECCOMP_RET_ERRNO | 77),
        IF_CALL(getuid, SECCOMP_RET_ERRNO | 0),
        IF_CALL(getgid, SECCOMP_RET_TRAP | 5),
        IF_CALL(geteuid, SECCOMP_RET_TRACE),
        IF_CALL(getegid, SECCOMP_RET_LOG),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 12345, 0, 1),
        RETURN(SECCOMP_RET_ERRNO | 78),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_dup3, 0, 5),
        LOAD(args[1]),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 100, 0, 2),
        BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, 200, 1, 0),
        RETURN(SECCOMP_RET_ERRNO | 79),
        RETURN(SECCOMP_RET_ALLOW),
        RETURN(SECCOMP_RET_ALLOW),
    };
    CHECK_EQ("install", install(code, LENGTH(code), SECCOMP_FILTER_FLAG_LOG), 0);
    CHECK_EQ("mode 2", prctl(PR_GET_SECCOMP), 2);
    CHECK_ERRNO("errno", syscall(SYS_getppid), 77);
    CHECK_EQ("errno 0", syscall(SYS_getuid), 0);
    CHECK_ERRNO("trace without a tracer", syscall(SYS_geteuid), ENOSYS);
    CHECK_EQ("log", syscall(SYS_getegid), getegid());
    CHECK_ERRNO("a number that is none", syscall(12345), 78);
    CHECK_ERRNO("another", syscall(12346), ENOSYS);
    CHECK_EQ("argument below", syscall(SYS_dup3, 1, 99, 0), 99);
    CHECK_ERRNO("argument within", syscall(SYS_dup3, 1, 150, 0), 79);
    CHECK_EQ("argument above", syscall(SYS_dup3, 1, 201, 0), 201);
    CHECK_EQ("only its low word", syscall(SYS_dup3, 1, (1l << 32) + 7, 0), 7);
    catch_with(SIGSYS, on_trap, 0);
    CHECK_EQ("trap: what the handler made of it", syscall(SYS_getgid), 4711);
    CHECK("trap: what it says", trapped.si_signo == SIGSYS && trapped.si_code == 1 && trapped.si_errno == 5);
    CHECK("trap: which call", trapped.si_syscall == SYS_getgid && trapped.si_arch == AUDIT_HERE);
    CHECK("trap: where", trapped.si_call_addr != NULL);
    CHECK_EQ("trap: the register", trapped_number, SYS_getgid);
    pid_t pid = fork();
    if (pid == 0)
        _exit(syscall(SYS_getppid) != -1 || errno != 77);
    int status;
    waitpid(pid, &status, 0);
    CHECK("inherited by fork", exited(status, 0));
    CHECK_ERRNO("no way to strict", prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT), EINVAL);
    struct sock_filter allow[] = {RETURN(SECCOMP_RET_ALLOW)}, stronger[] = {
        LOAD(nr), IF_CALL(getppid, SECCOMP_RET_ERRNO | 80), IF_CALL(getsid, SECCOMP_RET_KILL_PROCESS), RETURN(SECCOMP_RET_ALLOW)};
    CHECK_EQ("one more", install(allow, 1, 0), 0);
    CHECK_ERRNO("does not weaken", syscall(SYS_getppid), 77);
    CHECK_EQ("and one", install(stronger, LENGTH(stronger), 0), 0);
    CHECK_ERRNO("of equals the newest", syscall(SYS_getppid), 80);
    char line[128];
    FILE *file = fopen("/proc/self/status", "re");
    int mode = -1, filters = -1;
    while (fgets(line, sizeof line, file)) {
        sscanf(line, "Seccomp: %d", &mode);
        sscanf(line, "Seccomp_filters: %d", &filters);
    }
    fclose(file);
    CHECK_EQ("status: mode", mode, 2);
    CHECK_EQ("status: filters", filters, 3);
    syscall(SYS_getsid, 0);
}

static void arithmetic(void)
{
    struct sock_filter code[] = {
        LOAD(nr),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_dup3, 1, 0),
        RETURN(SECCOMP_RET_ALLOW),
        LOAD(args[0]),
        BPF_STMT(BPF_ST, 7),
        LOAD(args[1]),
        BPF_STMT(BPF_MISC | BPF_TAX, 0),
        BPF_STMT(BPF_LD | BPF_MEM, 7),
        BPF_STMT(BPF_ALU | BPF_DIV | BPF_X, 0),
        BPF_STMT(BPF_ALU | BPF_MUL | BPF_K, 3),
        BPF_STMT(BPF_ALU | BPF_ADD | BPF_X, 0),
        BPF_STMT(BPF_ALU | BPF_XOR | BPF_K, 0x21),
        BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0xfff),
        BPF_STMT(BPF_ALU | BPF_OR | BPF_K, SECCOMP_RET_ERRNO),
        BPF_STMT(BPF_RET | BPF_A, 0),
    };
    install(code, LENGTH(code), 0);
    CHECK_ERRNO("computed", syscall(SYS_dup3, 100, 7), ((100 / 7 * 3 + 7) ^ 0x21) & 0xfff);
    CHECK_ERRNO("unsigned", syscall(SYS_dup3, -1, 3), ((0xffffffffu / 3 * 3 + 3) ^ 0x21) & 0xfff);
    syscall(SYS_dup3, 100, 0);
}

static void *in_thread(void *arg)
{
    (void)arg;
    syscall(SYS_getppid);
    return "survived";
}

static void kill_thread(void)
{
    struct sock_filter code[] = {LOAD(nr), IF_CALL(getppid, SECCOMP_RET_KILL_THREAD), RETURN(SECCOMP_RET_ALLOW)};
    install(code, LENGTH(code), 0);
    pthread_t thread;
    void *result = NULL;
    pthread_create(&thread, NULL, in_thread, NULL);
    while (task_state(getpid()) == 0 || access("/proc/self/task", F_OK) != 0)
        ;
    for (int i = 0; i < 500; i++) {
        DIR *tasks = opendir("/proc/self/task");
        int count = 0;
        while (readdir(tasks))
            count++;
        closedir(tasks);
        if (count == 3)
            break;
        sleep_ms(2);
    }
    CHECK("the process goes on", result == NULL);
    syscall(SYS_getppid);
}

static pthread_barrier_t barrier;

static void *waits(void *arg)
{
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    *(long *)arg = syscall(SYS_getppid) == -1 ? errno : 0;
    return NULL;
}

static void *own_filter(void *arg)
{
    struct sock_filter allow[] = {RETURN(SECCOMP_RET_ALLOW)};
    install(allow, 1, 0);
    *(long *)arg = syscall(SYS_gettid);
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    return NULL;
}

static void together(void)
{
    struct sock_filter code[] = {LOAD(nr), IF_CALL(getppid, SECCOMP_RET_ERRNO | 90), RETURN(SECCOMP_RET_ALLOW)};
    pthread_t thread;
    long seen = -1;
    pthread_barrier_init(&barrier, NULL, 2);
    pthread_create(&thread, NULL, waits, &seen);
    pthread_barrier_wait(&barrier);
    CHECK_EQ("TSYNC", install(code, LENGTH(code), SECCOMP_FILTER_FLAG_TSYNC), 0);
    pthread_barrier_wait(&barrier);
    pthread_join(thread, NULL);
    CHECK_EQ("the other thread has it", seen, 90);
    pthread_create(&thread, NULL, own_filter, &seen);
    pthread_barrier_wait(&barrier);
    CHECK_EQ("a thread with filters of its own", install(code, LENGTH(code), SECCOMP_FILTER_FLAG_TSYNC), seen);
    CHECK_ERRNO("or ESRCH",
                install(code, LENGTH(code), SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_TSYNC_ESRCH), ESRCH);
    pthread_barrier_wait(&barrier);
    pthread_join(thread, NULL);
}

static void without_no_new_privs(void)
{
    struct sock_filter allow[] = {RETURN(SECCOMP_RET_ALLOW)};
    if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1) {
        say("ok EACCES without no_new_privs\n");
        return;
    }
    if (IS_ROOT)
        setuid(65534);
    CHECK_ERRNO("EACCES without no_new_privs", install(allow, 1, 0), EACCES);
}

static void too_much(void)
{
    static struct sock_filter code[4096];
    for (size_t i = 0; i < LENGTH(code); i++)
        code[i] = (struct sock_filter)RETURN(SECCOMP_RET_ALLOW);
    int count = 0;
    while (count < 20 && install(code, LENGTH(code), 0) == 0)
        count++;
    CHECK("not without end", count >= 3 && count < 20);
    CHECK_EQ("ENOMEM", errno, ENOMEM);
}

static void after_exec(void)
{
    struct sock_filter code[] = {LOAD(nr), IF_CALL(uname, SECCOMP_RET_ERRNO | EPERM), RETURN(SECCOMP_RET_ALLOW)};
    install(code, LENGTH(code), 0);
    int null = open("/dev/null", O_WRONLY);
    dup2(null, 2);
    execl("/bin/uname", "uname", "-s", NULL);
    _exit(99);
}

int main(void)
{
    CHECK("EACCES", exited(in_child(without_no_new_privs), 0));
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    strict();
    actions_known();
    bad_programs();
    CHECK("filtered, and killed at last", killed(in_child(filtered), SIGSYS));
    CHECK("division by zero kills", killed(in_child(arithmetic), SIGSYS));
    CHECK("the last thread takes the process with it", killed(in_child(kill_thread), SIGSYS));
    CHECK("threads", exited(in_child(together), 0));
    CHECK("limit", exited(in_child(too_much), 0));
    WITH_SHELL("inherited by execve", CHECK("inherited by execve", exited(in_child(after_exec), 1)));
    return finish();
}
