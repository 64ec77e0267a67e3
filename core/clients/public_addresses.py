"""Which addresses belong to the public internet.

After IANA's registries of special-purpose addresses, as read in 2026-11. Written out, because what Python's own
`is_global` says has changed between its patch releases, and because it takes what embeds another address for public.
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address

_SPECIAL_V4 = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network; 0.0.0.0 connects to this machine
        "10.0.0.0/8",
        "100.64.0.0/10",  # behind a carrier's NAT; also where some clouds keep their metadata
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's platform, reached from its machines alone
        "169.254.0.0/16",  # link-local, the metadata of most clouds
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",  # documentation, as are 198.51.100.0/24 and 203.0.113.0/24
        "192.88.99.0/24",  # relays of 6to4
        "192.168.0.0/16",
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
    )
)
# Nothing else is assigned yet. Outside of it are ::, ::1, mapped and compatible IPv4, NAT64 (64:ff9b::/96 and
# 64:ff9b:1::/48), discard, unique local, link-local, the old site-local, multicast.
_UNICAST_V6 = IPv6Network("2000::/3")
_SPECIAL_V6 = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # protocols: Teredo, benchmarks, ORCHID
        "2001:db8::/32",  # documentation, as is 3fff::/20
        "2002::/16",  # 6to4, an IPv4 address inside
        "3ffe::/16",  # the old 6bone
        "3fff::/20",
    )
)


def is_public(address: str) -> bool:
    """Whether an IPv4 or IPv6 address may be anybody's on the internet. Raises ValueError for what is no address."""
    found = ip_address(address)
    if isinstance(found, IPv4Address):
        return not any(found in network for network in _SPECIAL_V4)
    return found in _UNICAST_V6 and not any(found in network for network in _SPECIAL_V6)
