"""A network behind a card, made up here: one guest, a gateway that answers for the rest of the world, and nothing else.

    packets.py  frames and what is in them, to and fro    tcp.py     one connection of the guest's
    dhcp.py     what the guest is told about the network  stack.py   who gets which frame; datagrams, echoes, refusals
    packets6.py, six.py   the same of IPv6: packets; the router, neighbours, echoes

No host access is here: a stack is given an `Outside`, which connects where the caller lets it.
"""
