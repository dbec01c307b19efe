/* cc: -static
 * execve(2) and rights: set-user-id and set-group-id files, capabilities, AT_SECURE, no_new_privs, dumpability. */
#include "../check.h"
#include <grp.h>
#include <linux/capability.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/resource.h>

static char self[PATH_MAX];
static int status;

struct rights {
    uid_t ruid, euid, suid;
    gid_t rgid, egid, sgid;
    uint64_t effective, permitted;
    int secure, dumpable, death_signal;
};
static struct rights seen;

static void capabilities(uint64_t *effective, uint64_t *permitted)
{
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2];
    syscall(SYS_capget, &header, data);
    *effective = data[0].effective | (uint64_t)data[1].effective << 32;
    *permitted = data[0].permitted | (uint64_t)data[1].permitted << 32;
}

/* The executed copy: what it finds goes to descriptor 9. */
static int tell(void)
{
    struct rights found = {0};
    getresuid(&found.ruid, &found.euid, &found.suid);
    getresgid(&found.rgid, &found.egid, &found.sgid);
    capabilities(&found.effective, &found.permitted);
    found.secure = (int)getauxval(AT_SECURE);
    found.dumpable = prctl(PR_GET_DUMPABLE);
    prctl(PR_GET_PDEATHSIG, &found.death_signal);
    return write(9, &found, sizeof found) == sizeof found ? 0 : 1;
}

static void run(const char *program, void (*before)(void))
{
    int report[2];
    pipe(report);
    memset(&seen, 0xff, sizeof seen);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(report[1], 9);
        if (before)
            before();
        execl(program, program, "tell", NULL);
        _exit(99);
    }
    close(report[1]);
    read(report[0], &seen, sizeof seen);
    close(report[0]);
    waitpid(pid, &status, 0);
}

static void copy(const char *name, uid_t uid, gid_t gid, mode_t mode)
{
    int from = open(self, O_RDONLY), to = open(name, O_WRONLY | O_CREAT, 0755);
    char block[65536];
    for (ssize_t n; (n = read(from, block, sizeof block)) > 0;)
        write(to, block, (size_t)n);
    close(from), close(to);
    if (IS_ROOT)
        chown(name, uid, gid);
    chmod(name, mode);
}

static void drop(void)
{
    setgroups(0, NULL), setresgid(4321, 4321, 4321), setresuid(4321, 4321, 4321);
}

static void drop_for_ever(void)
{
    drop(), prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

static void drop_with_death_signal(void)
{
    drop(), prctl(PR_SET_PDEATHSIG, SIGUSR1);
}

static void effective_only(void)
{
    setresgid(4321, 4321, 4321), setresuid(0, 4321, 0);
}

static void keep_capabilities(void)
{
    prctl(PR_SET_KEEPCAPS, 1), drop();
}

static void ambient(void)
{
    keep_capabilities();
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2];
    syscall(SYS_capget, &header, data);
    data[0].inheritable = data[0].permitted, data[1].inheritable = data[1].permitted;
    syscall(SYS_capset, &header, data);
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_CHOWN, 0, 0);
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_KILL, 0, 0);
}

static void without_root(void)
{
    prctl(PR_SET_SECUREBITS, 1 << 0); /* SECBIT_NOROOT */
}

static void bounded(void)
{
    prctl(PR_CAPBSET_DROP, CAP_SYS_NICE, 0, 0, 0);
}

/* In a group of its own, which is ended afterwards. */
static void too_many(void)
{
    setrlimit(RLIMIT_NPROC, &(struct rlimit){0, 0});
    setresgid(4322, 4322, 4322);
    int ready[2];
    pipe2(ready, O_CLOEXEC);
    if (fork() == 0) {
        setresuid(4322, 4322, 4322);
        close(ready[1]);
        pause();
    }
    close(ready[1]);
    char c;
    read(ready[0], &c, 1);
    CHECK_EQ("becoming a user with too many processes", setresuid(4322, 4322, 4322), 0);
    CHECK_ERRNO("they may not run programs", execl("plain", "plain", "tell", NULL), EAGAIN);
    CHECK_ERRNO("nor fork", fork(), EAGAIN);
    _exit(0);
}

static void as_root(void)
{
    copy("plain", 0, 0, 0755), copy("setuid", 1234, 0, 04755), copy("setgid", 0, 1235, 02755);
    copy("nogroup", 0, 1235, 02745), copy("setroot", 0, 0, 04755), copy("both", 1234, 1235, 06755);
    run("plain", NULL);
    CHECK("root stays root", seen.ruid == 0 && seen.euid == 0 && seen.effective != 0 && seen.secure == 0 && seen.dumpable == 1);
    run("plain", bounded);
    CHECK("what was dropped from the bounding set is gone", seen.effective && !(seen.effective & 1 << CAP_SYS_NICE));
    run("plain", without_root);
    CHECK("SECBIT_NOROOT: root is nobody special", seen.euid == 0 && seen.effective == 0 && seen.permitted == 0);
    run("plain", drop);
    CHECK("another user", seen.ruid == 4321 && seen.euid == 4321 && seen.effective == 0 && seen.permitted == 0);
    CHECK("may be looked into again", seen.dumpable == 1);
    run("setuid", drop);
    CHECK("set-user-id", seen.ruid == 4321 && seen.euid == 1234 && seen.suid == 1234 && seen.egid == 4321);
    CHECK("is secure, not to be looked into, and powerless", seen.secure == 1 && seen.dumpable != 1 && seen.effective == 0);
    run("setgid", drop);
    CHECK("set-group-id", seen.rgid == 4321 && seen.egid == 1235 && seen.sgid == 1235 && seen.euid == 4321 && seen.secure == 1);
    run("nogroup", drop);
    CHECK("not without group execute", seen.egid == 4321 && seen.secure == 0);
    run("both", drop);
    CHECK("both", seen.euid == 1234 && seen.egid == 1235);
    run("setroot", drop);
    CHECK("set-user-id root has all rights", seen.ruid == 4321 && seen.euid == 0 && seen.effective != 0 && seen.secure == 1);
    run("setuid", drop_for_ever);
    CHECK("no_new_privs", seen.euid == 4321 && seen.suid == 4321 && seen.secure == 0 && seen.dumpable == 1);
    run("setuid", drop_with_death_signal);
    CHECK_EQ("PR_SET_PDEATHSIG is cleared", seen.death_signal, 0);
    run("plain", drop_with_death_signal);
    CHECK_EQ("else it stays", seen.death_signal, SIGUSR1);
    run("plain", effective_only);
    CHECK("the saved id follows the effective one", seen.ruid == 0 && seen.euid == 4321 && seen.suid == 4321 && seen.secure == 1);
    CHECK("its capabilities are permitted only", seen.effective == 0 && seen.permitted != 0);
    run("plain", keep_capabilities);
    CHECK("PR_SET_KEEPCAPS does not reach a new program", seen.effective == 0 && seen.permitted == 0);
    run("plain", ambient);
    CHECK("ambient capabilities do", seen.effective == (1 << CAP_CHOWN | 1 << CAP_KILL) && seen.permitted == seen.effective && !seen.secure);
    run("setuid", ambient);
    CHECK("but not set-user-id files", seen.effective == 0);
    pid_t pid = fork();
    if (pid == 0) {
        setpgid(0, 0);
        too_many();
    }
    waitpid(pid, &status, 0);
    kill(-pid, SIGKILL);
    close(new_file("script", "#!./plain tell\n"));
    chown("script", 1234, 1235), chmod("script", 06755);
    run("./script", drop);
    CHECK("a script's bits do not count", seen.euid == 4321 && seen.egid == 4321 && seen.secure == 0);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        return tell();
    self[readlink("/proc/self/exe", self, sizeof self - 1)] = 0;
    enter_scratch();
    chmod(".", 0755);
    if (IS_ROOT) {
        as_root();
    } else {
        copy("mine", 0, 0, 06755);
        run("./mine", NULL);
        CHECK("one's own set-user-id file", seen.ruid == geteuid() && seen.euid == geteuid() && seen.effective == 0 && seen.secure == 0);
    }
    return finish();
}
