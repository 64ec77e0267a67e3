"""Hosts on one machine: network namespaces on a bridge, whose cables can be pulled. Linux, and root."""

import contextlib
import ctypes
import os
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

_CLONE_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)


class Network:
    """A bridge of this machine's own; `host(n)` is a namespace on it with an address that we can reach."""

    def __init__(self) -> None:
        self._name = f"nbl{secrets.token_hex(3)}"
        self._prefix = f"10.{secrets.randbelow(200) + 20}.{secrets.randbelow(250)}"
        self._hosts: list[str] = []

    def open(self) -> None:
        """Fails with one line where it cannot be had."""
        try:
            _ip("link", "add", self._name, "type", "bridge")
        except (OSError, subprocess.CalledProcessError) as error:
            raise AssertionError(f"network namespaces need Linux, root and iproute2: {error}") from None
        _ip("addr", "add", f"{self._prefix}.1/24", "dev", self._name)
        _ip("link", "set", self._name, "up")

    def host(self) -> "NetworkHost":
        number = len(self._hosts) + 2
        namespace, cable = f"{self._name}-{number}", f"{self._name}{number}"
        self._hosts.append(namespace)
        address = f"{self._prefix}.{number}"
        _ip("netns", "add", namespace)
        _ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", namespace)
        _ip("link", "set", cable, "master", self._name, "up")
        _ip("-n", namespace, "addr", "add", f"{address}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            _ip("-n", namespace, "link", "set", device, "up")
        return NetworkHost(namespace, address, cable)

    def close(self) -> None:
        """Its processes have to have ended."""
        for namespace in self._hosts:
            _ip("netns", "del", namespace)
        _ip("link", "del", self._name)


class NetworkHost:
    def __init__(self, namespace: str, address: str, cable: str) -> None:
        self.address = address
        self._namespace = Path("/run/netns", namespace)
        self._cable = cable

    def cut_off(self) -> None:
        _ip("link", "set", self._cable, "down")

    def connect(self) -> None:
        _ip("link", "set", self._cable, "up")

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """This thread's new sockets and processes are on that host, while the block lasts."""
        with Path("/proc/thread-self/ns/net").open() as ours, self._namespace.open() as theirs:
            _enter(theirs.fileno())
            try:
                yield
            finally:
                _enter(ours.fileno())


def _enter(descriptor: int) -> None:
    if _LIBC.setns(descriptor, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
