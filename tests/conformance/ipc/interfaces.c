/* cc: -static
 * netdevice(7): what ioctl(2) on a socket of any family says of network interfaces; here, of the loopback. */
#include "../check.h"
#include <net/if.h>
#include <net/if_arp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

static struct ifreq asked;

static int ask(int fd, unsigned long request, const char *name)
{
    memset(&asked, 0, sizeof asked);
    strncpy(asked.ifr_name, name, IFNAMSIZ);
    return ioctl(fd, request, &asked);
}

static void names(int fd)
{
    CHECK_EQ("if_nametoindex", if_nametoindex("lo"), 1);
    char name[IFNAMSIZ] = "";
    CHECK("if_indextoname", if_indextoname(1, name) == name && strcmp(name, "lo") == 0);
    CHECK_ERRNO("no such name", ask(fd, SIOCGIFINDEX, "nosuch"), ENODEV);
    CHECK_ERRNO("nor the empty one", ask(fd, SIOCGIFINDEX, ""), ENODEV);
    CHECK("behind a colon there is an alias", ask(fd, SIOCGIFINDEX, "lo:1") == 0 && asked.ifr_ifindex == 1);
    asked.ifr_ifindex = 123456;
    CHECK_ERRNO("no such index", ioctl(fd, SIOCGIFNAME, &asked), ENODEV);
    CHECK_ERRNO("bad pointer", ioctl(fd, SIOCGIFINDEX, 8), EFAULT);
}

static void properties(int fd)
{
    CHECK("flags", ask(fd, SIOCGIFFLAGS, "lo") == 0 && asked.ifr_flags & IFF_LOOPBACK && !(asked.ifr_flags & IFF_BROADCAST));
    CHECK("the name comes back", strcmp(asked.ifr_name, "lo") == 0);
    CHECK("MTU", ask(fd, SIOCGIFMTU, "lo") == 0 && asked.ifr_mtu == 65536);
    CHECK("metric", ask(fd, SIOCGIFMETRIC, "lo") == 0 && asked.ifr_metric == 0);
    CHECK("queue", ask(fd, SIOCGIFTXQLEN, "lo") == 0 && asked.ifr_qlen == 1000);
    CHECK("hardware address", ask(fd, SIOCGIFHWADDR, "lo") == 0 && asked.ifr_hwaddr.sa_family == ARPHRD_LOOPBACK &&
                                  memcmp(asked.ifr_hwaddr.sa_data, (char[6]){0}, 6) == 0);
    CHECK("map", ask(fd, SIOCGIFMAP, "lo") == 0 && asked.ifr_map.mem_start == 0 && asked.ifr_map.irq == 0);
    CHECK_ERRNO("the slave", ask(fd, SIOCGIFSLAVE, "lo"), EINVAL);
    CHECK_ERRNO("of what is not there", ask(fd, SIOCGIFMTU, "nosuch"), ENODEV);
    CHECK_ERRNO("addresses belong to a family that has some", ask(fd, SIOCGIFADDR, "lo"), ENOTTY);
    if (IS_ROOT)
        SKIP("changes", "root may make some");
    else {
        CHECK_ERRNO("flags are not for everybody to set", ask(fd, SIOCSIFFLAGS, "lo"), EPERM);
        CHECK_ERRNO("nor the MTU", ask(fd, SIOCSIFMTU, "lo"), EPERM);
        CHECK_ERRNO("nor the name", ask(fd, SIOCSIFNAME, "lo"), EPERM);
    }
}

int main(void)
{
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    names(fd);
    properties(fd);
    int pair[2];
    CHECK("sockets of every kind", socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0 && ask(pair[1], SIOCGIFINDEX, "lo") == 0);
    CHECK_ERRNO("and nothing else", ask(0, SIOCGIFINDEX, "lo"), ENOTTY);
    int netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 0);
    CHECK("of netlink too", ask(netlink, SIOCGIFINDEX, "lo") == 0 && asked.ifr_ifindex == 1);
    return finish();
}
