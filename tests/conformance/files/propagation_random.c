/* cc: -static
 * Mount propagation again: long random sequences of mounts, binds, moves, unmounts and changes of type, after each of which
 * the tree of mounts must be the one that Linux makes of it: where something is mounted, what it shows, and of which type. */
#include "../check.h"
#include <linux/mount.h>

int mount(const char *, const char *, const char *, unsigned long, const void *);
int umount2(const char *, int);
#define DETACH 2
#define SEEDS 60
#define STEPS 25
#define MOST 120 /* mounts: then a sequence ends */

static const char *places[] = {"a", "b", "c", "a/x", "b/x", "c/x", "a/y", "b/y", "c/y", "a/x/x", "b/x/x", "c/x/x", "a/x/y", "b/x/y"};
static unsigned state;
static unsigned long hash;

static unsigned pick(unsigned count)
{
    state = state * 1103515245u + 12345u;
    return (state >> 16) % count;
}

static void mix(const char *text)
{
    for (; *text; text++)
        hash = (hash ^ (unsigned char)*text) * 0x100000001b3ul;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Mix in what mountinfo says of what is below the current directory; how many mounts there are. Numbers of groups are left out,
 * and in which order mounts cover one another. */
static int look(void)
{
    static char line[4096], here[PATH_MAX], root[PATH_MAX], at[PATH_MAX], *rows[4096];
    int count = 0;
    size_t length = strlen(getcwd(here, sizeof here));
    FILE *file = fopen("/proc/self/mountinfo", "r");
    while (count < 4096 && fgets(line, sizeof line, file)) {
        if (sscanf(line, "%*d %*d %*s %s %s", root, at) != 2 || strncmp(at, here, length) || at[length] != '/')
            continue;
        *strstr(line, " - ") = 0;
        bool shared = strstr(line, " shared:"), slave = strstr(line, " master:"), lone = strstr(line, " unbindable");
        if (asprintf(&rows[count++], "%s %s %d%d%d\n", at + length, root, shared, slave, lone) < 0)
            _exit(97);
    }
    fclose(file);
    qsort(rows, count, sizeof *rows, by_text);
    for (int i = 0; i < count; i++) {
        mix(rows[i]);
        free(rows[i]);
    }
    return count;
}

static int tmpfs(const char *path)
{
    char name[64];
    int result = mount("none", path, "tmpfs", 0, NULL);
    for (int i = 0; result == 0 && i < 4; i++) {
        snprintf(name, sizeof name, "%s/%s", path, (const char *[]){"x", "y", "x/x", "x/y"}[i]);
        mkdir(name, 0755);
    }
    return result;
}

static int step(void)
{
    static const unsigned long types[] = {MS_SHARED, MS_SHARED, MS_SLAVE, MS_PRIVATE, MS_UNBINDABLE};
    const char *p = places[pick(14)], *q = places[pick(14)];
    unsigned what = pick(11), extra = pick(3);
    if (what < 2)
        return tmpfs(p);
    if (what < 4)
        return mount(p, q, NULL, MS_BIND | (extra ? MS_REC : 0), NULL);
    if (what < 5)
        return mount(p, q, NULL, MS_MOVE, NULL);
    if (what < 8)
        return umount2(p, what == 7 ? DETACH : 0);
    return mount("none", p, NULL, types[pick(5)] | (extra ? 0 : MS_REC), NULL);
}

static void sequence(unsigned seed)
{
    char name[64];
    state = seed * 7919 + 1, hash = 0xcbf29ce484222325ul;
    mkdir("top", 0755);
    mount("none", "top", "tmpfs", 0, NULL);
    chdir("top");
    for (int i = 0; i < 3; i++)
        mkdir(places[i], 0755), tmpfs(places[i]);
    mount("none", "a", NULL, MS_SHARED, NULL), mount("a", "b", NULL, MS_BIND, NULL);
    if (seed % 2)
        mount("none", "b", NULL, MS_SLAVE, NULL);
    if (seed % 4 == 3)
        mount("none", "b", NULL, MS_SHARED, NULL);
    if (seed % 3 == 0)
        mount("b", "c", NULL, MS_BIND, NULL);
    for (int i = 0; i < STEPS; i++) {
        errno = 0;
        mix(step() ? errno_name(errno) : "done");
        if (look() > MOST)
            break;
    }
    chdir("..");
    umount2("top", DETACH);
    snprintf(name, sizeof name, "sequence %u comes to %016lx", seed, hash);
    CHECK(name, true);
}

int main(void)
{
    enter_scratch();
    if (IS_ROOT) { /* in a place of its own, so that nothing of it reaches others */
        unshare(CLONE_NEWNS);
        mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL);
        mount("none", ".", "tmpfs", 0, NULL);
        chdir(check_scratch);
        for (unsigned seed = 0; seed < SEEDS; seed++)
            sequence(seed);
        chdir("/");
        umount2(check_scratch, DETACH);
    }
    return finish();
}
