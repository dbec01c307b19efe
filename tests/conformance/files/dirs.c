/* cc: -static
 * mkdir(2), rmdir(2), chdir(2), fchdir(2), getcwd(2), getdents(2), path walk limits. */
#include "../check.h"

static struct stat st;

static void make_and_remove(void)
{
    CHECK_EQ("mkdir", mkdir("a", 0755), 0);
    CHECK_ERRNO("mkdir again", mkdir("a", 0755), EEXIST);
    CHECK_EQ("trailing slash", mkdir("a/b/", 0755), 0);
    CHECK_ERRNO("missing parent", mkdir("x/y", 0755), ENOENT);
    CHECK("parent's link count", stat("a", &st) == 0 && st.st_nlink == 3);
    CHECK_ERRNO("rmdir non-empty", rmdir("a"), ENOTEMPTY);
    CHECK_ERRNO("rmdir .", rmdir("a/b/."), EINVAL);
    CHECK_ERRNO("rmdir ..", rmdir("a/b/.."), ENOTEMPTY);
    close(new_file("f", ""));
    CHECK_ERRNO("rmdir a file", rmdir("f"), ENOTDIR);
    CHECK_ERRNO("unlink a directory", unlink("a/b"), EISDIR);
    CHECK_EQ("unlinkat AT_REMOVEDIR", unlinkat(AT_FDCWD, "a/b", AT_REMOVEDIR), 0);
    CHECK("count is back", stat("a", &st) == 0 && st.st_nlink == 2);
    CHECK_ERRNO("rmdir missing", rmdir("a/b"), ENOENT);
}

static void current(void)
{
    char path[PATH_MAX], want[PATH_MAX];
    CHECK("getcwd", getcwd(path, sizeof path) && strcmp(path, check_scratch) == 0);
    int back = open(".", O_RDONLY | O_DIRECTORY);
    mkdir("a/deep", 0755);
    CHECK_EQ("chdir", chdir("a/deep"), 0);
    snprintf(want, sizeof want, "%.4000s/a/deep", check_scratch);
    CHECK_EQ("raw getcwd counts its NUL", syscall(SYS_getcwd, path, sizeof path), (long)strlen(want) + 1);
    CHECK("same path", strcmp(path, want) == 0);
    CHECK_ERRNO("too small", syscall(SYS_getcwd, path, 3), ERANGE);
    CHECK("..", stat("../../f", &st) == 0);
    rmdir("../deep");
    CHECK_ERRNO("getcwd of a removed directory", syscall(SYS_getcwd, path, sizeof path), ENOENT);
    CHECK_ERRNO("create in a removed directory", open("new", O_CREAT | O_WRONLY, 0644), ENOENT);
    CHECK_EQ("fchdir", fchdir(back), 0);
    CHECK_ERRNO("chdir to a file", chdir("f"), ENOTDIR);
    CHECK("stat /..", stat("/..", &st) == 0);
    ino_t root = st.st_ino;
    CHECK("/.. is /", stat("/", &st) == 0 && st.st_ino == root);
    close(back);
}

static int by_name(const void *left, const void *right)
{
    return strcmp(*(char *const *)left, *(char *const *)right);
}

static void listing(void)
{
    mkdir("list", 0755);
    chdir("list");
    close(new_file("file", ""));
    mkdir("dir", 0755);
    symlink("x", "link");
    mkfifo("fifo", 0644);
    char path[32];
    for (int i = 0; i < 300; i++) {
        snprintf(path, sizeof path, "many-%03d", i);
        close(new_file(path, ""));
    }
    DIR *dir = opendir(".");
    int count = 0;
    char types[5] = "    ", *names[400];
    for (struct dirent *e; (e = readdir(dir));) {
        names[count++] = strdup(e->d_name);
        types[0] = strcmp(e->d_name, "file") == 0 ? "?f"[e->d_type == DT_REG] : types[0];
        types[1] = strcmp(e->d_name, "dir") == 0 ? "?d"[e->d_type == DT_DIR] : types[1];
        types[2] = strcmp(e->d_name, "link") == 0 ? "?l"[e->d_type == DT_LNK] : types[2];
        types[3] = strcmp(e->d_name, "fifo") == 0 ? "?p"[e->d_type == DT_FIFO] : types[3];
    }
    CHECK_EQ("entries, with . and ..", count, 306);
    CHECK("types", strcmp(types, "fdlp") == 0);
    qsort(names, count, sizeof *names, by_name);
    bool unique = true;
    for (int i = 1; i < count; i++)
        unique &= strcmp(names[i - 1], names[i]) != 0;
    CHECK("each once", unique);
    rewinddir(dir);
    for (int i = 0; i < 100; i++)
        readdir(dir);
    long place = telldir(dir);
    char *next = strdup(readdir(dir)->d_name);
    for (int i = 0; i < 100; i++)
        readdir(dir);
    seekdir(dir, place);
    CHECK("seekdir", strcmp(readdir(dir)->d_name, next) == 0);
    closedir(dir);
    char small[16];
    int fd = open(".", O_RDONLY);
    CHECK_ERRNO("buffer too small", syscall(SYS_getdents64, fd, small, sizeof small), EINVAL);
    int file = open("file", O_RDONLY);
    CHECK_ERRNO("not a directory", syscall(SYS_getdents64, file, small, sizeof small), ENOTDIR);
    chdir("..");
}

static void walks(void)
{
    char path[5000];
    memset(path, 'n', 256);
    path[256] = 0;
    CHECK_ERRNO("name of 256", mkdir(path, 0755), ENAMETOOLONG);
    path[255] = 0;
    CHECK_EQ("name of 255", mkdir(path, 0755), 0);
    memset(path, '/', sizeof path), path[4096] = 0;
    CHECK_ERRNO("path of 4096", stat(path, &st), ENAMETOOLONG);
    path[4095] = 0;
    CHECK_EQ("path of 4095", stat(path, &st), 0);
    symlink("loop2", "loop1"), symlink("loop1", "loop2");
    CHECK_ERRNO("loop", stat("loop1", &st), ELOOP);
    symlink("f", "c0");
    char from[16], to[16];
    for (int i = 1; i <= 40; i++) {
        snprintf(from, sizeof from, "c%d", i - 1), snprintf(to, sizeof to, "c%d", i);
        symlink(from, to);
    }
    CHECK_EQ("40 links", stat("c39", &st), 0);
    CHECK_ERRNO("41 links", stat("c40", &st), ELOOP);
    symlink("a", "da");
    CHECK("link with a trailing slash", lstat("da/", &st) == 0 && S_ISDIR(st.st_mode));
    CHECK_EQ("dots and slashes", stat(".//a/.././/f", &st), 0);
    CHECK_ERRNO("through a file with ..", stat("f/../f", &st), ENOTDIR);
}

int main(void)
{
    enter_scratch();
    make_and_remove();
    current();
    listing();
    walks();
    return finish();
}
