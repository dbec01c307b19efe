"""netlink(7), rtnetlink(7): numbers and layouts (linux/netlink.h, linux/rtnetlink.h, linux/if_link.h)."""

from __future__ import annotations

from struct import Struct

AF_NETLINK = 16
NETLINK_ROUTE = 0
MAX_LINKS = 32
SOCKADDR_NL = Struct("<HHII")  #: family, padding, port, groups

NLMSGHDR = Struct("<IHHII")  #: length, type, flags, sequence number, port
NLMSG_NOOP, NLMSG_ERROR, NLMSG_DONE = 1, 2, 3
NLMSG_MIN_TYPE = 0x10  #: types below are not of the family
NLM_F_REQUEST, NLM_F_MULTI, NLM_F_ACK = 0x1, 0x2, 0x4
NLM_F_DUMP = 0x300  #: NLM_F_ROOT | NLM_F_MATCH
NLM_F_CAPPED = 0x100

SOL_NETLINK = 270
NETLINK_ADD_MEMBERSHIP, NETLINK_DROP_MEMBERSHIP = 1, 2
NETLINK_SWITCHES = frozenset((3, 4, 5, 10, 11, 12))  #: PKTINFO, BROADCAST_ERROR, NO_ENOBUFS, CAP_ACK, EXT_ACK, GET_STRICT_CHK
NETLINK_CAP_ACK = 10

RTM_BASE, RTM_NEWLINK, RTM_GETLINK, RTM_GETADDR, RTM_GETROUTE, RTM_GETNEIGH, RTM_MAX = 16, 16, 18, 22, 26, 30, 123
RTM_KINDS = 4  #: NEW, DEL, GET, SET of each object
RTM_KIND_GET = 2
IFINFOMSG = Struct("<BxHiII")  #: family, device type, index, flags, change
RTATTR = Struct("<HH")  #: length, type
NLA_TYPE_MASK = 0x3FFF
IFLA_ADDRESS, IFLA_BROADCAST, IFLA_IFNAME, IFLA_MTU, IFLA_QDISC, IFLA_TXQLEN = 1, 2, 3, 4, 6, 13
IFLA_OPERSTATE, IFLA_LINKMODE = 16, 17
ARPHRD_LOOPBACK = 772
IFF_UP, IFF_LOOPBACK, IFF_RUNNING, IFF_LOWER_UP = 0x1, 0x8, 0x40, 0x10000

NOTIFY_COOKIE_LEN = 32  #: mq_notify(2) with SIGEV_THREAD: what glibc wants to have back, but for its last byte
NOTIFY_WOKENUP, NOTIFY_REMOVED = 1, 2
