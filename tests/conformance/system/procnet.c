/* cc: -static
 * /proc/net/unix: what it says of a socket. */
#include "../check.h"
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

/* The row of a socket: flags, type, state and path, or "". */
static const char *row(ino_t wanted)
{
    static char found[256];
    char line[512];
    found[0] = 0;
    FILE *table = fopen("/proc/net/unix", "r");
    while (fgets(line, sizeof line, table)) {
        unsigned references, protocol, flags, type, state;
        unsigned long inode;
        char path[120] = "";
        if (sscanf(line, "%*s %x %x %x %x %x %lu %119s", &references, &protocol, &flags, &type, &state, &inode, path) >= 6
            && inode == wanted)
            snprintf(found, sizeof found, "%x %x %x %s", flags, type, state, path);
    }
    fclose(table);
    return found;
}

static ino_t number(int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 ? st.st_ino : 0;
}

int main(void)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "\0trapline-proc"};
    socklen_t size = offsetof(struct sockaddr_un, sun_path) + 14;
    int fd = socket(AF_UNIX, SOCK_STREAM, 0), s[2];
    CHECK("unconnected", strcmp(row(number(fd)), "0 1 1 ") == 0);
    bind(fd, (void *)&name, size), listen(fd, 5);
    CHECK("listening, with its name", strcmp(row(number(fd)), "10000 1 1 @trapline-proc") == 0);
    socketpair(AF_UNIX, SOCK_DGRAM, 0, s);
    CHECK("a pair", strcmp(row(number(s[0])), "0 2 3 ") == 0);
    ino_t closed = number(fd);
    close(fd);
    CHECK("closed", row(closed)[0] == 0);
    return finish();
}
