"""Requests: one by hand to see that the answer is right, and `wrk` to measure."""

import http.client
import re
import subprocess
from pathlib import Path

from .machine import HERE, OTHER_CORES, Failed, pinned

COOKIE = "evergate_access"
CONNECTIONS = 64
UNSEEN = Path(__file__).with_name("unseen.lua")


def cookie(token):
    """As a browser would send it: the app's own cookies on both sides."""
    return f"theme=dark; {COOKIE}={token}; lang=en"


def fetch(port, path, headers=None):
    connection = http.client.HTTPConnection(HERE, port, timeout=10)
    try:
        connection.request("GET", path, headers=headers or {})
        reply = connection.getresponse()
        return reply.status, reply.headers, reply.read().decode()
    finally:
        connection.close()


def wrk(port, path, seconds, token=None, unseen=None):
    """Requests answered. `unseen` is a file of tokens and how many of them to leave out."""
    argv = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s"]
    url, rest = f"http://{HERE}:{port}{path}", []
    if unseen:
        argv += ["-s", str(UNSEEN)]
        rest = ["--", *map(str, unseen)]
    elif token:
        argv += ["-H", f"Cookie: {cookie(token)}"]
    done = subprocess.run(
        argv + [url] + rest, capture_output=True, text=True, timeout=seconds + 60,
        preexec_fn=pinned(OTHER_CORES),
    )
    total = re.search(r"(\d+) requests in", done.stdout)
    wrong = re.search(r"Non-2xx.*|Socket errors: .*", done.stdout)
    if not total or wrong:
        raise Failed(f"{url}: {wrong[0] if wrong else done.stdout + done.stderr}")
    return int(total[1])
