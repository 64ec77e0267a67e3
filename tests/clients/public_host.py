"""A machine of its own that has a public address: run inside `unshare --net`, prints what was reached, as JSON.

Nothing is allowed and nothing of the guard is changed: the address really is public, and no packet leaves the machine.
"""

import asyncio
import fcntl
import json
import socket
import struct
import sys

from core.clients.http import GuardedHttp
from core.clients.url_guard import UrlFailed
from core.errors import ValidationFailed
from tests.support.receiver import Answer, Names, Receiver, running_receiver

PUBLIC = "93.184.216.34"
SET_FLAGS, SET_ADDRESS = 0x8914, 0x8916  # SIOCSIFFLAGS, SIOCSIFADDR
UP = 1


def give_address(interface: str, address: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        inet = struct.pack("!HH4s8x", 0, 0, socket.inet_aton(address))
        inet = struct.pack("H", socket.AF_INET) + inet[2:]
        fcntl.ioctl(any_socket, SET_ADDRESS, struct.pack("16s16s8x", interface.encode(), inet))
        fcntl.ioctl(any_socket, SET_FLAGS, struct.pack("16sH22x", interface.encode(), UP))


async def visit(public: Receiver, private: Receiver) -> dict[str, object]:
    names = Names(hooks_example=[[PUBLIC], [PUBLIC], ["127.0.0.1"]], inner_example=[["127.0.0.1"]])
    http = GuardedHttp((), resolver=names, total_seconds=2)
    url = f"http://hooks.example:{public.port}/"
    seen: dict[str, object] = {}
    await http.check_url(url, "callback_url")
    seen["status"] = (await http.post(url, b"{}", {})).status
    seen["reached"] = (public.connections, private.connections)
    try:
        await http.post(url, b"{}", {})
    except UrlFailed as error:
        seen["rebound"] = error.reason
    public.answers = [Answer(302, headers={"location": f"http://inner.example:{public.port}/"})]
    try:
        await http.fetch(f"http://{PUBLIC}:{public.port}/", lambda _: asyncio.sleep(0), field="image", max_bytes=1000)
    except ValidationFailed as error:
        seen["redirected"] = str(error)
    seen["reached_at_last"] = (public.connections, private.connections)
    await http.close()
    return seen


async def main() -> None:
    async with running_receiver(PUBLIC) as public, running_receiver("127.0.0.1", port=public.port) as private:
        sys.stdout.write(json.dumps(await visit(public, private)))


if __name__ == "__main__":
    give_address("lo", "127.0.0.1")
    give_address("lo:1", PUBLIC)
    asyncio.run(main())
