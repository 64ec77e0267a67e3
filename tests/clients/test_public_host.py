"""The guard as it is shipped, nothing allowed, towards an address that is public, in a network of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
UNSHARE = ["unshare", "--net", *([] if os.getuid() == 0 else ["--map-root-user"])]


def test_a_public_host_is_reached_and_the_machine_behind_it_is_not() -> None:
    command = [*UNSHARE, sys.executable, "-m", "tests.clients.public_host"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert (seen["status"], seen["reached"]) == (200, [1, 0])
    assert seen["rebound"] == "url_not_public"
    assert "url_not_public" in seen["redirected"]
    assert seen["reached_at_last"] == [2, 0], "the second request to the public host was the one that redirects"
