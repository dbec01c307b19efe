/* cc: -static
 * /proc/locks and the lock lines of /proc/PID/fdinfo. */
#include "../check.h"
#include <sys/file.h>

static char line[256];

/* Whether a file of proc has a line about a lock on `fd` with this kind, access and range. */
static bool listed(const char *path, int fd, const char *kind, const char *access, long pid, const char *range)
{
    struct stat st;
    fstat(fd, &st);
    FILE *file = fopen(path, "r");
    bool found = false;
    while (fgets(line, sizeof line, file)) {
        char *at = strstr(line, ": ");
        char what[16], how[16], mode[16], place[64], from[32], to[32], both[64];
        long who;
        while (at && sscanf(at + 2, "%15s %15s %15s %ld %63s %31s %31s", what, how, mode, &who, place, from, to) != 7)
            at = strstr(at + 2, ": ");
        if (!at)
            continue;
        snprintf(both, sizeof both, "%s %s", from, to);
        char *ino = strrchr(place, ':');
        found |= ino && strtoul(ino + 1, NULL, 10) == st.st_ino && !strcmp(what, kind) && !strcmp(how, "ADVISORY") && !strcmp(mode, access)
                 && who == pid && !strcmp(both, range);
    }
    fclose(file);
    return found;
}

int main(void)
{
    enter_scratch();
    int fd = new_file("f", "some data"), other = open("f", O_RDWR);
    struct flock lock = {.l_type = F_WRLCK, .l_start = 2, .l_len = 3};
    char info[64];
    fcntl(fd, F_SETLK, &lock);
    CHECK("a record lock", listed("/proc/locks", fd, "POSIX", "WRITE", getpid(), "2 4"));
    snprintf(info, sizeof info, "/proc/self/fdinfo/%d", fd);
    CHECK("in fdinfo", listed(info, fd, "POSIX", "WRITE", getpid(), "2 4"));
    lock = (struct flock){.l_type = F_RDLCK, .l_start = 100};
    fcntl(other, F_OFD_SETLK, &lock);
    CHECK("of an open file", listed("/proc/locks", fd, "OFDLCK", "READ", -1, "100 EOF"));
    CHECK("not through another", !listed(info, fd, "OFDLCK", "READ", -1, "100 EOF"));
    flock(fd, LOCK_EX);
    CHECK("of a whole file", listed("/proc/locks", fd, "FLOCK", "WRITE", getpid(), "0 EOF"));
    flock(fd, LOCK_UN);
    CHECK("given up", !listed("/proc/locks", fd, "FLOCK", "WRITE", getpid(), "0 EOF"));
    return finish();
}
