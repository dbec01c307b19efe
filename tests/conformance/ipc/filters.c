/* cc: -static
 * Socket filters on UNIX datagrams and packets: SO_ATTACH_FILTER, SO_DETACH_FILTER, SO_LOCK_FILTER, SO_GET_FILTER.
 */
#include "../check.h"
#include <linux/filter.h>
#include <sys/socket.h>

static int pair[2];
static char got[64];

static int attach(struct sock_filter *program, unsigned short count)
{
    struct sock_fprog filter = {count, program};
    return setsockopt(pair[0], SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter);
}
#define ATTACH(...) attach((struct sock_filter[]){__VA_ARGS__}, sizeof((struct sock_filter[]){__VA_ARGS__}) / sizeof(struct sock_filter))

/* How much of "packet" arrives; -1: nothing. */
static long passes(const char *packet)
{
    send(pair[1], packet, strlen(packet), 0);
    return recv(pair[0], got, sizeof got, MSG_DONTWAIT);
}

static void filters(int kind)
{
    socketpair(AF_UNIX, kind, 0, pair);
    CHECK_ERRNO("none to take away", setsockopt(pair[0], SOL_SOCKET, SO_DETACH_FILTER, &kind, sizeof kind), ENOENT);
    CHECK_EQ("all", ATTACH(BPF_STMT(BPF_RET | BPF_K, 0xffffffff)), 0);
    CHECK_EQ("passes", passes("abcdef"), 6);
    CHECK_EQ("none", ATTACH(BPF_STMT(BPF_RET | BPF_K, 0)), 0);
    CHECK_EQ("is dropped, and the sender not told", send(pair[1], "abc", 3, 0), 3);
    CHECK_ERRNO("nothing comes", recv(pair[0], got, 9, MSG_DONTWAIT), EAGAIN);
    ATTACH(BPF_STMT(BPF_RET | BPF_K, 4));
    CHECK("cut short", passes("abcdef") == 4 && memcmp(got, "abcd", 4) == 0);
    ATTACH(BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 1), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 'b', 0, 1), BPF_STMT(BPF_RET | BPF_K, 99), BPF_STMT(BPF_RET | BPF_K, 0));
    CHECK("by a byte", passes("abc") == 3 && passes("acc") == -1 && passes("a") == -1);
    ATTACH(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 1), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0x62636465, 0, 1), BPF_STMT(BPF_RET | BPF_K, 99), BPF_STMT(BPF_RET | BPF_K, 0));
    CHECK("by a word, big-endian, anywhere", passes("abcde") == 5 && passes("abcdf") == -1 && passes("abcd") == -1);
    ATTACH(BPF_STMT(BPF_LDX | BPF_B | BPF_MSH, 0), BPF_STMT(BPF_LD | BPF_H | BPF_IND, 1), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0x7879, 0, 1), BPF_STMT(BPF_RET | BPF_K, 99), BPF_STMT(BPF_RET | BPF_K, 0));
    CHECK("behind a header", passes("a....xy") == 7 && passes("b....xy") == -1 && passes("b........xy") == 11);
    ATTACH(BPF_STMT(BPF_LD | BPF_W | BPF_LEN, 0), BPF_STMT(BPF_ALU | BPF_MOD | BPF_K, 3), BPF_STMT(BPF_RET | BPF_A, 0));
    CHECK("by its length", passes("abc") == -1 && passes("abcd") == 1 && passes("abcde") == 2);
    ATTACH(BPF_STMT(BPF_LD | BPF_W | BPF_LEN, 0), BPF_STMT(BPF_LDX | BPF_IMM, 1), BPF_STMT(BPF_LD | BPF_W | BPF_ABS, SKF_AD_OFF + SKF_AD_ALU_XOR_X), BPF_STMT(BPF_RET | BPF_A, 0));
    CHECK("ancillary operations", passes("abc") == 2 && passes("ab") == 2);
    struct sock_filter program[8];
    socklen_t count = 0;
    CHECK("its length", getsockopt(pair[0], SOL_SOCKET, SO_GET_FILTER, NULL, &count) == 0 && count == 4);
    count = 8;
    CHECK("itself", getsockopt(pair[0], SOL_SOCKET, SO_GET_FILTER, program, &count) == 0 && count == 4 && program[0].code == (BPF_LD | BPF_W | BPF_LEN) && program[1].k == 1);
    count = 3;
    CHECK_ERRNO("into too little", getsockopt(pair[0], SOL_SOCKET, SO_GET_FILTER, program, &count), EINVAL);
    CHECK_ERRNO("without an end", ATTACH(BPF_STMT(BPF_LD | BPF_IMM, 1)), EINVAL);
    CHECK_ERRNO("a jump too far", ATTACH(BPF_JUMP(BPF_JMP | BPF_JA, 1, 0, 0), BPF_STMT(BPF_RET | BPF_K, 0)), EINVAL);
    CHECK_ERRNO("division by nothing", ATTACH(BPF_STMT(BPF_ALU | BPF_MOD | BPF_K, 0), BPF_STMT(BPF_RET | BPF_K, 0)), EINVAL);
    CHECK_ERRNO("unknown ancillary data", ATTACH(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, SKF_AD_OFF + 200), BPF_STMT(BPF_RET | BPF_K, 0)), EINVAL);
    CHECK_ERRNO("no instruction", attach(program, 0), EINVAL);
    CHECK_ERRNO("bad pointer", attach((void *)8, 1), EFAULT);
    CHECK_EQ("what failed changed nothing", passes("ab"), 2);
    int one = 1, zero = 0, value = 0;
    socklen_t size = sizeof value;
    CHECK_EQ("take it away", setsockopt(pair[0], SOL_SOCKET, SO_DETACH_FILTER, &zero, sizeof zero), 0);
    CHECK_EQ("all pass", passes("abcdef"), 6);
    CHECK_EQ("not locked", setsockopt(pair[0], SOL_SOCKET, SO_LOCK_FILTER, &zero, sizeof zero), 0);
    CHECK_EQ("locked", setsockopt(pair[0], SOL_SOCKET, SO_LOCK_FILTER, &one, sizeof one), 0);
    CHECK("says so", getsockopt(pair[0], SOL_SOCKET, SO_LOCK_FILTER, &value, &size) == 0 && value == 1);
    CHECK_ERRNO("for good", setsockopt(pair[0], SOL_SOCKET, SO_LOCK_FILTER, &zero, sizeof zero), EPERM);
    CHECK_ERRNO("no other filter", ATTACH(BPF_STMT(BPF_RET | BPF_K, 0)), EPERM);
    CHECK_ERRNO("nor less", setsockopt(pair[0], SOL_SOCKET, SO_DETACH_FILTER, &zero, sizeof zero), EPERM);
    close(pair[0]), close(pair[1]);
}

int main(void)
{
    filters(SOCK_DGRAM);
    filters(SOCK_SEQPACKET);
    socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    ATTACH(BPF_STMT(BPF_RET | BPF_K, 0));
    CHECK_EQ("streams are not filtered", passes("abc"), 3);
    return finish();
}
