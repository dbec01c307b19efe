/* cc: -static
 * getuid(2) and its family, setresuid(2), setgroups(2), capget(2), prctl(2), what execve(2) and fork(2) keep. */
#include "../check.h"
#include <grp.h>
#include <linux/capability.h>
#include <sys/prctl.h>

static uid_t r, e, s;

static uint64_t effective(void)
{
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2];
    syscall(SYS_capget, &header, data);
    return data[0].effective | (uint64_t)data[1].effective << 32;
}

static void unprivileged(void)
{
    if (IS_ROOT && (setgroups(0, NULL) || setgid(4321) || setuid(4321)))
        _exit(9);
    uid_t me = getuid();
    CHECK_EQ("no capabilities", effective(), 0);
    CHECK_ERRNO("setuid to root", setuid(0), EPERM);
    CHECK_ERRNO("setgid to root", setgid(0), EPERM);
    CHECK_ERRNO("setgroups", setgroups(0, NULL), EPERM);
    CHECK_EQ("setuid to itself", setuid(me), 0);
    CHECK_EQ("setresuid to itself", setresuid(me, me, me), 0);
    CHECK_ERRNO("sethostname", sethostname("x", 1), EPERM);
    CHECK_ERRNO("kill of another's process", kill(1, 0), EPERM);
    CHECK_ERRNO("raising the priority", nice(-5), EPERM);
    CHECK_ERRNO("acct", syscall(SYS_acct, NULL), EPERM);
    CHECK_ERRNO("mount", syscall(SYS_mount, "a", "/tmp", "tmpfs", 0, NULL), EPERM);
}

static void privileged(void)
{
    gid_t groups[4];
    CHECK("groups", setgroups(2, (gid_t[]){30, 20}) == 0 && getgroups(4, groups) == 2 && groups[0] == 20 && groups[1] == 30);
    CHECK_ERRNO("too small a list", getgroups(1, groups), EINVAL);
    CHECK_EQ("how many", getgroups(0, NULL), 2);
    CHECK("all capabilities of a root", effective() != 0);
    CHECK("seteuid", seteuid(1000) == 0 && getresuid(&r, &e, &s) == 0 && r == 0 && e == 1000 && s == 0);
    CHECK_EQ("effective capabilities go", effective(), 0);
    CHECK("and come back", seteuid(0) == 0 && effective() != 0);
    CHECK("setreuid", setreuid(1000, 0) == 0 && getresuid(&r, &e, &s) == 0 && r == 1000 && e == 0 && s == 0);
    CHECK("setresuid keeps -1", setresuid(-1, 2000, -1) == 0 && getresuid(&r, &e, &s) == 0 && r == 1000 && e == 2000 && s == 0);
    CHECK("to the saved one", setresuid(0, 0, 0) == 0);
    CHECK("PR_SET_KEEPCAPS", prctl(PR_SET_KEEPCAPS, 1) == 0 && setuid(1000) == 0 && effective() == 0);
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2];
    syscall(SYS_capget, &header, data);
    CHECK("permitted ones were kept", data[0].permitted != 0);
    data[0] = (struct __user_cap_data_struct){1, 1, 0}, data[1] = (struct __user_cap_data_struct){0, 0, 0};
    CHECK("capset drops to CAP_CHOWN", syscall(SYS_capset, &header, data) == 0 && effective() == 1);
    data[0].permitted = 3;
    CHECK_ERRNO("and never gains", syscall(SYS_capset, &header, data), EPERM);
    header.version = 5;
    CHECK_ERRNO("bad version", syscall(SYS_capget, &header, data), EINVAL);
    CHECK_EQ("says the right one", header.version, _LINUX_CAPABILITY_VERSION_3);
}

static void controls(void)
{
    char name[17] = {0};
    CHECK("PR_SET_NAME", prctl(PR_SET_NAME, "a-name-longer-than-15") == 0 && prctl(PR_GET_NAME, name) == 0 &&
                             strcmp(name, "a-name-longer-t") == 0);
    FILE *comm = fopen("/proc/self/comm", "r");
    CHECK("/proc/self/comm", fgets(name, sizeof name, comm) && strcmp(name, "a-name-longer-t\n") == 0);
    fclose(comm);
    int value = -1;
    CHECK("PR_SET_PDEATHSIG", prctl(PR_SET_PDEATHSIG, SIGUSR1) == 0 && prctl(PR_GET_PDEATHSIG, &value) == 0 && value == SIGUSR1);
    CHECK_ERRNO("bad signal", prctl(PR_SET_PDEATHSIG, 99), EINVAL);
    CHECK("dumpable", prctl(PR_SET_DUMPABLE, 0) == 0 && prctl(PR_GET_DUMPABLE) == 0 && prctl(PR_SET_DUMPABLE, 1) == 0);
    CHECK_ERRNO("bad dumpable", prctl(PR_SET_DUMPABLE, 7), EINVAL);
    CHECK("no new privileges", prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
    CHECK_ERRNO("no way back", prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0), EINVAL);
    CHECK_ERRNO("unknown option", prctl(12345), EINVAL);
    CHECK("timer slack", prctl(PR_SET_TIMERSLACK, 1234) == 0 && prctl(PR_GET_TIMERSLACK) == 1234);
    CHECK_ERRNO("PR_CAPBSET_READ of none", prctl(PR_CAPBSET_READ, 200), EINVAL);
}

int main(void)
{
    getresuid(&r, &e, &s);
    CHECK("all the same", r == getuid() && e == geteuid() && s == e);
    CHECK("unprivileged", exited(in_child(unprivileged), 0));
    if (IS_ROOT)
        CHECK("privileged", exited(in_child(privileged), 0));
    else
        SKIP("privileged", "not root");
    controls();
    return finish();
}
