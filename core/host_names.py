"""Hosts as a URL or a setting names them, in the one spelling in which they are compared.

An IPv4 address has many spellings: `2130706433`, `0177.0.0.1`, `0x7f.1` and `127.1` are all `127.0.0.1` to those who
connect, and look like names to those who check. Only four decimal numbers are taken here.
"""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

LAST_PORT = 65535
_MOST_CHARACTERS = 253
_NAME = re.compile(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")
# Whose last part is a number is an address to every browser (https://url.spec.whatwg.org/#ends-in-a-number-checker).
_ENDS_IN_NUMBER = re.compile(r"(.*\.)?([0-9]+|0x[0-9a-f]*)")
_ENTRY = re.compile(r"(?:\[(?P<six>[^\[\]]+)\]|(?P<name>[^:\[\]]+))(?::(?P<port>[0-9]{1,5}))?")


@dataclass(frozen=True)
class NamedHost:
    """`host` as `canonical_host` spells it; `port` None stands for any."""

    host: str
    port: int | None


def canonical_host(host: str) -> str:
    """Lower case, no dot at the end, an address as `ipaddress` writes it; IPv6 without brackets.

    Raises ValueError for what is neither a name in ASCII nor an address in its usual spelling.
    """
    text = host.lower().removesuffix(".")
    if ":" in text:
        if "%" in text:
            raise ValueError("an address with a zone belongs to one machine alone")
        return str(IPv6Address(text))
    if _ENDS_IN_NUMBER.fullmatch(text):
        return str(IPv4Address(text))
    if len(text) > _MOST_CHARACTERS or not _NAME.fullmatch(text):
        raise ValueError("not the name of a host")
    return text


def named_host(entry: str) -> NamedHost:
    """Read `receiver.internal`, `10.0.0.5:9000`, `fd00::5` or `[fd00::5]:9000`. Raises ValueError."""
    if entry.count(":") > 1 and not entry.startswith("["):
        return NamedHost(canonical_host(entry), None)
    found = _ENTRY.fullmatch(entry)
    if found is None:
        raise ValueError("not a host, nor a host with a port")
    port = int(found["port"]) if found["port"] else None
    if port is not None and not 1 <= port <= LAST_PORT:
        raise ValueError("not a port")
    return NamedHost(canonical_host(found["six"] or found["name"]), port)
