/* cc: -static
 * inotify(7): what is reported of files and directories, and in which order. */
#include "../check.h"
#include <sys/inotify.h>
#include <sys/ioctl.h>

static int in;
static char buffer[8192];

/* The next events as text, "MASK:NAME " each; cookies are compared, not shown. */
static const char *events(void)
{
    static char text[4096];
    text[0] = 0;
    ssize_t length = read(in, buffer, sizeof buffer);
    uint32_t cookie = 0;
    for (char *at = buffer; at < buffer + length;) {
        struct inotify_event *event = (void *)at;
        const char *name = event->len ? event->name : "";
        sprintf(text + strlen(text), "%x:%s%s ", event->mask, name, cookie && event->cookie == cookie ? "=" : "");
        cookie = event->cookie;
        at += sizeof *event + event->len;
    }
    return text;
}

static bool expect(const char *name, const char *want)
{
    const char *got = events();
    bool same = strcmp(got, want) == 0;
    if (!same)
        say("# %s: got %s\n", name, got);
    return CHECK(name, same);
}

static void directory(void)
{
    int wd = inotify_add_watch(in, ".", IN_ALL_EVENTS);
    CHECK("watch a directory", wd > 0);
    int fd = open("f", O_CREAT | O_RDWR, 0644);
    write(fd, "x", 1), write(fd, "y", 1);
    close(fd);
    expect("create, open, modify once, close", "100:f 20:f 2:f 8:f ");
    fd = open("f", O_RDONLY);
    read(fd, buffer, 1);
    close(fd);
    expect("open, access, close", "20:f 1:f 10:f ");
    chmod("f", 0600);
    expect("attributes", "4:f ");
    rename("f", "g");
    expect("rename, one cookie", "40:f 80:g= ");
    link("g", "h");
    expect("link", "100:h ");
    truncate("h", 0);
    expect("truncate", "2:h ");
    mkdir("d", 0755);
    rmdir("d");
    expect("a subdirectory", "40000100:d 40000200:d ");
    symlink("g", "s");
    unlink("s");
    expect("a link", "100:s 200:s ");
    fd = open("h", O_RDWR);
    unlink("h");
    write(fd, "x", 1);
    close(fd);
    expect("an unlinked file goes on", "20:h 200:h 2:h 8:h ");
    CHECK_EQ("the same watch", inotify_add_watch(in, ".", IN_ALL_EVENTS | IN_EXCL_UNLINK), wd);
    fd = open("g", O_RDWR);
    unlink("g");
    write(fd, "x", 1);
    close(fd);
    expect("but not with IN_EXCL_UNLINK", "20:g 200:g ");
    CHECK_EQ("remove", inotify_rm_watch(in, wd), 0);
    expect("ignored", "8000: ");
    CHECK_ERRNO("remove twice", inotify_rm_watch(in, wd), EINVAL);
}

static void file(void)
{
    int fd = new_file("f", "content");
    int wd = inotify_add_watch(in, "f", IN_ALL_EVENTS);
    CHECK("watch a file", wd > 0);
    chmod("f", 0600);
    rename("f", "g");
    expect("attributes, move", "4: 800: ");
    unlink("g");
    expect("one name less", "4: ");
    close(fd);
    expect("closed and gone", "8: 400: 8000: ");
    close(new_file("f", ""));
    inotify_add_watch(in, "f", IN_ATTRIB | IN_ONESHOT);
    chmod("f", 0644), chmod("f", 0600);
    expect("one shot", "4: 8000: ");
    mkdir("d", 0755);
    inotify_add_watch(in, "d", IN_DELETE_SELF);
    rmdir("d");
    expect("a directory goes", "400: 8000: ");
    inotify_add_watch(in, "f", IN_ALL_EVENTS);
    unlink("f");
    expect("the last name goes", "4: 400: 8000: ");
}

static void rules(void)
{
    int wd = inotify_add_watch(in, ".", IN_CREATE);
    CHECK_ERRNO("create only", inotify_add_watch(in, ".", IN_CREATE | IN_MASK_CREATE), EEXIST);
    CHECK_EQ("add to the mask", inotify_add_watch(in, ".", IN_DELETE | IN_MASK_ADD), wd);
    close(open("new", O_CREAT | O_WRONLY, 0644));
    unlink("new");
    int bytes = 0;
    CHECK("FIONREAD", ioctl(in, FIONREAD, &bytes) == 0 && bytes == 2 * (sizeof(struct inotify_event) + 16));
    CHECK_ERRNO("too small a buffer", read(in, buffer, 10), EINVAL);
    expect("both", "100:new 200:new ");
    CHECK_ERRNO("empty mask", inotify_add_watch(in, ".", 0), EINVAL);
    close(new_file("f", ""));
    expect("made", "100:f ");
    CHECK_ERRNO("only directories", inotify_add_watch(in, "f", IN_CREATE | IN_ONLYDIR), ENOTDIR);
    CHECK_ERRNO("no such file", inotify_add_watch(in, "nothing", IN_CREATE), ENOENT);
    CHECK_ERRNO("not an instance", inotify_add_watch(0, ".", IN_CREATE), EINVAL);
    CHECK_ERRNO("nothing to read", read(in, buffer, sizeof buffer), EAGAIN);
    CHECK_ERRNO("bad flags", inotify_init1(1), EINVAL);
}

static void fifo(void)
{
    char byte;
    mkfifo("pipe", 0600);
    expect("a FIFO", "100:pipe ");
    int end = open("pipe", O_RDWR | O_NONBLOCK), watch = inotify_add_watch(in, "pipe", IN_ACCESS | IN_MODIFY);
    write(end, "x", 1);
    expect("written to", "2: ");
    read(end, &byte, 1);
    expect("read", "1: ");
    read(end, &byte, 1);
    expect("nothing was there", "");
    close(end);
    inotify_rm_watch(in, watch);
    expect("a FIFO no more", "8000: ");
}

int main(void)
{
    enter_scratch();
    in = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    CHECK("inotify_init1", in >= 0);
    directory();
    file();
    rules();
    fifo();
    return finish();
}
