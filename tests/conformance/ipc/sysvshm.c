/* cc:
 * System V shared memory: shmget(2), shmat(2), shmdt(2), shmctl(2), permissions, and what fork and exit do to nattch.
 */
#include "../check.h"
#include <grp.h>
#include <sys/ipc.h>
#include <sys/shm.h>

static int id;

static struct shmid_ds stat_of(int shmid)
{
    struct shmid_ds ds;
    memset(&ds, 0xa5, sizeof ds);
    CHECK_EQ("IPC_STAT", shmctl(shmid, IPC_STAT, &ds), 0);
    return ds;
}

static key_t fresh_key(void)
{
    return (key_t)(0x54000000 | (getpid() & 0xffffff));
}

static void keys(void)
{
    key_t key = fresh_key();
    CHECK_ERRNO("no such key", shmget(key, 100, 0600), ENOENT);
    int made = shmget(key, 5000, IPC_CREAT | IPC_EXCL | 0640);
    CHECK("create", made >= 0);
    CHECK_ERRNO("exclusive", shmget(key, 5000, IPC_CREAT | IPC_EXCL | 0640), EEXIST);
    CHECK_EQ("found again", shmget(key, 5000, 0), made);
    CHECK_EQ("size 0 finds", shmget(key, 0, 0), made);
    CHECK_ERRNO("too small", shmget(key, 5001, 0), EINVAL);
    CHECK_ERRNO("size 0 is not made", shmget(IPC_PRIVATE, 0, 0600), EINVAL);
    struct shmid_ds ds = stat_of(made);
    CHECK_EQ("size as asked", ds.shm_segsz, 5000);
    CHECK_EQ("mode", ds.shm_perm.mode, 0640);
    CHECK("owner", ds.shm_perm.uid == geteuid() && ds.shm_perm.cuid == geteuid());
    CHECK_EQ("key", ds.shm_perm.__key, key);
    CHECK_EQ("creator", ds.shm_cpid, getpid());
    CHECK_EQ("no last user", ds.shm_lpid, 0);
    CHECK("times", ds.shm_atime == 0 && ds.shm_dtime == 0 && ds.shm_ctime > 0);
    CHECK_EQ("remove", shmctl(made, IPC_RMID, NULL), 0);
    CHECK_ERRNO("gone by key", shmget(key, 100, 0), ENOENT);
    CHECK_ERRNO("gone by id", shmctl(made, IPC_STAT, &ds), EINVAL);
    CHECK_ERRNO("cannot attach", shmat(made, NULL, 0), EINVAL);
    CHECK_ERRNO("bad id", shmctl(-1, IPC_STAT, &ds), EINVAL);
    CHECK_ERRNO("bad command", shmctl(made, 99, &ds), EINVAL);
}

static void child_writes(void)
{
    char *at = shmat(id, NULL, 0);
    CHECK("child sees", strcmp(at + 4000, "hello") == 0);
    strcpy(at, "world");
}

static void child_reads_only(void)
{
    char *at = shmat(id, NULL, SHM_RDONLY);
    at[0] = 1;
}

static void child_exits_attached(void)
{
    shmat(id, NULL, 0);
    struct shmid_ds ds;
    shmctl(id, IPC_STAT, &ds);
    CHECK_EQ("inherited and its own", ds.shm_nattch, 3);
}

static void attaching(void)
{
    id = shmget(IPC_PRIVATE, 5000, 0600);
    char *at = shmat(id, NULL, 0);
    CHECK("attach", at != (void *)-1 && ((uintptr_t)at & (PAGE - 1)) == 0);
    CHECK("zeros", at[0] == 0 && at[4999] == 0 && at[8191] == 0);
    strcpy(at + 4000, "hello");
    CHECK("child", exited(in_child(child_writes), 0));
    CHECK("child wrote", strcmp(at, "world") == 0);
    CHECK("read only", killed(in_child(child_reads_only), SIGSEGV));
    struct shmid_ds ds = stat_of(id);
    CHECK_EQ("one attachment", ds.shm_nattch, 1);
    CHECK("last user, times", ds.shm_lpid != 0 && ds.shm_lpid != getpid() && ds.shm_atime > 0 && ds.shm_dtime > 0);
    char *again = shmat(id, NULL, 0);
    CHECK("a second time", again != at && strcmp(again, "world") == 0);
    CHECK_EQ("two attachments", stat_of(id).shm_nattch, 2);
    CHECK_EQ("detach", shmdt(again), 0);
    CHECK_ERRNO("detach twice", shmdt(again), EINVAL);
    CHECK_ERRNO("detach what is no attachment", shmdt((void *)((uintptr_t)&ds & -PAGE)), EINVAL);
    CHECK_ERRNO("detach in the middle", shmdt(at + 1), EINVAL);
    CHECK("exit detaches", exited(in_child(child_exits_attached), 0));
    CHECK_EQ("one again", stat_of(id).shm_nattch, 1);
    CHECK_EQ("last to detach", shmdt(at), 0);
    CHECK_EQ("none", stat_of(id).shm_nattch, 0);
    at = shmat(id, NULL, 0);
    CHECK("content stays", strcmp(at, "world") == 0);
    shmdt(at);
    shmctl(id, IPC_RMID, NULL);
}

static void addresses(void)
{
    id = shmget(IPC_PRIVATE, 2 * PAGE, 0600);
    char *room = mmap(NULL, 8 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK_ERRNO("occupied", shmat(id, room, 0), EINVAL);
    CHECK_ERRNO("not aligned", shmat(id, room + 1, 0), EINVAL);
    CHECK_ERRNO("remap where", shmat(id, NULL, SHM_REMAP), EINVAL);
    CHECK("remap", shmat(id, room + 2 * PAGE, SHM_REMAP) == room + 2 * PAGE);
    munmap(room + 5 * PAGE, 3 * PAGE);
    CHECK("rounded", shmat(id, room + 5 * PAGE + 77, SHM_RND) == room + 5 * PAGE);
    strcpy(room + 2 * PAGE, "same");
    CHECK("same memory", strcmp(room + 5 * PAGE, "same") == 0);
    CHECK_EQ("a hole in it", munmap(room + 5 * PAGE, PAGE), 0);
    CHECK_EQ("still attached", stat_of(id).shm_nattch, 2);
    CHECK_EQ("detach the rest", shmdt(room + 5 * PAGE), 0);
    CHECK_EQ("one left", stat_of(id).shm_nattch, 1);
    CHECK_EQ("protect part", mprotect(room + 2 * PAGE, PAGE, PROT_READ), 0);
    CHECK_EQ("parts count", stat_of(id).shm_nattch, 2);
    CHECK_EQ("detach both parts", shmdt(room + 2 * PAGE), 0);
    CHECK_EQ("none left", stat_of(id).shm_nattch, 0);
    shmctl(id, IPC_RMID, NULL);
}

static void removal(void)
{
    key_t key = fresh_key();
    id = shmget(key, PAGE, IPC_CREAT | 0600);
    char *at = shmat(id, NULL, 0);
    strcpy(at, "kept");
    CHECK_EQ("remove while attached", shmctl(id, IPC_RMID, NULL), 0);
    struct shmid_ds ds = stat_of(id);
    CHECK_EQ("marked", ds.shm_perm.mode, SHM_DEST | 0600);
    CHECK_EQ("key is private", ds.shm_perm.__key, IPC_PRIVATE);
    CHECK_ERRNO("not found by key", shmget(key, PAGE, 0), ENOENT);
    CHECK("still there", strcmp(at, "kept") == 0);
    char *more = shmat(id, NULL, 0);
    CHECK("attach by id", more != (void *)-1);
    shmdt(at);
    CHECK("and there", strcmp(more, "kept") == 0);
    shmdt(more);
    CHECK_ERRNO("gone with the last", shmctl(id, IPC_STAT, &ds), EINVAL);
}

static void replace_last(void)
{
    id = shmget(IPC_PRIVATE, PAGE, 0600);
    char *at = shmat(id, NULL, 0);
    strcpy(at, "kept");
    shmctl(id, IPC_RMID, NULL);
    CHECK("replace the last attachment by itself", shmat(id, at, SHM_REMAP) == at);
    CHECK("content", strcmp(at, "kept") == 0);
    shmdt(at);
}

static void setting(void)
{
    id = shmget(IPC_PRIVATE, PAGE, 0600);
    struct shmid_ds ds = stat_of(id);
    ds.shm_perm.mode = 0444;
    CHECK_EQ("IPC_SET", shmctl(id, IPC_SET, &ds), 0);
    CHECK_EQ("mode now", stat_of(id).shm_perm.mode, 0444);
    ds.shm_perm.uid = (uid_t)-1;
    CHECK_ERRNO("no such user", shmctl(id, IPC_SET, &ds), EINVAL);
    if (IS_ROOT)
        CHECK("root writes", shmat(id, NULL, 0) != (void *)-1);
    else
        CHECK_ERRNO("no write permission", shmat(id, NULL, 0), EACCES);
    CHECK("may read", shmat(id, NULL, SHM_RDONLY) != (void *)-1);
    CHECK_EQ("lock", shmctl(id, SHM_LOCK, NULL), 0);
    CHECK_EQ("locked", stat_of(id).shm_perm.mode & SHM_LOCKED, SHM_LOCKED);
    CHECK_EQ("unlock", shmctl(id, SHM_UNLOCK, NULL), 0);
    CHECK_EQ("unlocked", stat_of(id).shm_perm.mode & SHM_LOCKED, 0);
    shmctl(id, IPC_RMID, NULL);
}

static void as_nobody(void)
{
    CHECK_EQ("become nobody", setgid(65534) | setuid(65534), 0);
    struct shmid_ds ds;
    CHECK_ERRNO("stat of another's", shmctl(id, IPC_STAT, &ds), EACCES);
    CHECK_EQ("SHM_STAT_ANY", shmctl(id & 0x7fff, 15, &ds), id);
    CHECK_ERRNO("SHM_STAT", shmctl(id & 0x7fff, SHM_STAT, &ds), EACCES);
    CHECK_ERRNO("remove another's", shmctl(id, IPC_RMID, NULL), EPERM);
    CHECK_ERRNO("set another's", shmctl(id, IPC_SET, &ds), EPERM);
    CHECK_ERRNO("lock another's", shmctl(id, SHM_LOCK, NULL), EPERM);
    CHECK_ERRNO("attach another's", shmat(id, NULL, SHM_RDONLY), EACCES);
}

static void others(void)
{
    if (!IS_ROOT)
        return;
    setgroups(0, NULL);
    id = shmget(IPC_PRIVATE, PAGE, 0600);
    CHECK("nobody", exited(in_child(as_nobody), 0));
    shmctl(id, IPC_RMID, NULL);
}

static void information(void)
{
    struct shminfo info;
    CHECK("IPC_INFO", shmctl(0, IPC_INFO, (void *)&info) >= 0);
    CHECK("limits", info.shmmin == 1 && info.shmmni >= 4096 && info.shmseg == info.shmmni);
    struct shm_info used;
    id = shmget(IPC_PRIVATE, 3 * PAGE, 0600);
    int highest = shmctl(0, SHM_INFO, (void *)&used);
    CHECK("SHM_INFO", highest >= 0 && used.used_ids >= 1 && used.shm_tot >= 3);
    bool found = false;
    for (int i = 0; i <= highest; i++) {
        struct shmid_ds ds;
        found |= shmctl(i, SHM_STAT, &ds) == id;
    }
    CHECK("SHM_STAT finds it", found);
    char line[256], key[32];
    FILE *file = fopen("/proc/sysvipc/shm", "re");
    int shmid = -1, seen = 0;
    fgets(line, sizeof line, file);
    while (fgets(line, sizeof line, file))
        seen |= sscanf(line, "%31s %d", key, &shmid) == 2 && shmid == id;
    fclose(file);
    CHECK("/proc/sysvipc/shm", seen);
    shmctl(id, IPC_RMID, NULL);
}

int main(void)
{
    keys();
    attaching();
    addresses();
    removal();
    replace_last();
    setting();
    others();
    information();
    return finish();
}
