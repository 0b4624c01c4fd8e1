"""The promise, timed: a request whose token is being refreshed alongside is not slower.

A slow app (120 ms) and an auth backend (100 ms) that gives each refresh token once. Requests with a
fresh token and requests in the refresh window take turns on the same connections, each one a session
of its own, so that what disturbs the machine disturbs both alike.
"""

import asyncio
import gc
import json
import sys
import time
from pathlib import Path
from urllib.parse import parse_qs

from .load import COOKIE
from .machine import HERE, OTHER_CORES, PROXY_CORE, Failed, Process, free_port
from .subjects import ISSUER

APP_S, BACKEND_S = 0.120, 0.100
CONNECTIONS, TURNS = 40, 60
WARM_UP_TURNS = 3  # the connections are being made
LEFT_IN_WINDOW_S = 50  # a token of an hour is refreshed from 63 to 90 s before its end
REFRESH_COOKIE = "evergate_refresh"

GATEWAY = """\
listen: 127.0.0.1:{port}
admin: {{ address: "127.0.0.1:{admin}" }}
threads: 1
log: {{ format: json, access: false }}
upstream: http://127.0.0.1:{app}
issuer: {{ url: "{issuer}", audience: bench, keys: {{ file: "{folder}/keys.json" }} }}
refresh: {{ url: "http://127.0.0.1:{app}/token", client_id: bench }}
cookies: {{ secure: false }}
routes: [{{ path: /* }}]
"""


def window(rig):
    """Latencies in ms by kind, and what the auth backend saw."""
    port, app, admin = free_port(), free_port(), free_port()
    count = CONNECTIONS * TURNS
    renewed = rig.tokens("renewed.txt", count)
    fresh = rig.tokens("fresh.txt", count).read_text().split()
    in_window = rig.tokens("window.txt", count, seconds_left=LEFT_IN_WINDOW_S).read_text().split()
    conf = rig.folder / "window.yaml"
    conf.write_text(GATEWAY.format(port=port, admin=admin, app=app, issuer=ISSUER, folder=rig.folder))
    entry = Path(sys.argv[0]).resolve()
    backend = Process("app-and-backend", [sys.executable, entry, "--serve-window", app, renewed], app, rig.folder)
    gateway = Process("gateway", [rig.binary("evergate"), "run", "-c", conf], port, rig.folder, cores=PROXY_CORE)
    with backend, gateway:
        times = asyncio.run(ask_all(port, {"fresh": fresh, "window": in_window}))
        seen = asyncio.run(ask(app, "/seen"))
    return times, json.loads(seen.partition(b"\r\n\r\n")[2])


# ---------------------------------------------------------------- the load

async def ask_all(port, tokens):
    gc.disable()
    times = {"fresh": [], "window": []}
    await asyncio.gather(*(one_connection(port, n, tokens, times) for n in range(CONNECTIONS)))
    return times


async def one_connection(port, number, tokens, times):
    # Spread over the time of one request, so that they do not come in bursts.
    await asyncio.sleep(APP_S * number / CONNECTIONS)
    # People come from different addresses; the gateway is wary of many sessions it never saw on one.
    own_address = (f"127.0.0.{number + 2}", 0)
    reader, writer = await asyncio.open_connection(HERE, port, local_addr=own_address)
    for turn in range(TURNS):
        for kind in ("fresh", "window"):
            session = number * TURNS + turn
            cookies = f"{COOKIE}={tokens[kind][session]}; {REFRESH_COOKIE}={kind}-{session}"
            start = time.perf_counter()
            answer = await one_request(reader, writer, f"/{session}", cookies)
            took_ms = (time.perf_counter() - start) * 1000
            if turn >= WARM_UP_TURNS:
                times[kind].append(took_ms)
            renewed = COOKIE.encode() + b"=" in answer
            if not answer.startswith(b"HTTP/1.1 200") or renewed != (kind == "window"):
                raise Failed(f"{kind}: unexpected answer: {answer.decode(errors='replace')}")
    writer.close()


async def one_request(reader, writer, path, cookies=""):
    writer.write(f"GET {path} HTTP/1.1\r\nHost: {HERE}\r\nCookie: {cookies}\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    return head + await reader.readexactly(length_of(head))


async def ask(port, path):
    reader, writer = await asyncio.open_connection(HERE, port)
    answer = await one_request(reader, writer, path)
    writer.close()
    return answer


def length_of(head):
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.split(b":")[1])
    return 0


# ---------------------------------------------------------------- the app and the auth backend

def serve(port, renewed_file):
    asyncio.run(Backend(Path(renewed_file).read_text().split()).run(int(port)))


class Backend:
    """Answers every page slowly; gives every refresh token once."""

    def __init__(self, renewed):
        self.renewed, self.spent = iter(renewed), set()
        self.seen = {"grants": 0, "reused": 0}

    async def run(self, port):
        server = await asyncio.start_server(self.connection, HERE, port, backlog=1024)
        async with server:
            await server.serve_forever()

    async def connection(self, reader, writer):
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                body = await reader.readexactly(length_of(head))
                status, answer = await self.answer(head.split(b" ", 2)[1], body)
                writer.write(
                    b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nCache-Control: no-store\r\n"
                    b"Content-Length: %d\r\n\r\n%s" % (status, len(answer), answer)
                )
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def answer(self, path, body):
        if path == b"/seen":
            return b"200 OK", json.dumps(self.seen).encode()
        if path != b"/token":
            await asyncio.sleep(APP_S)
            return b"200 OK", b"{}"
        token = parse_qs(body.decode())["refresh_token"][0]
        await asyncio.sleep(BACKEND_S)
        if token in self.spent:
            self.seen["reused"] += 1
            return b"400 Bad Request", b'{"error":"invalid_grant"}'
        self.spent.add(token)
        self.seen["grants"] += 1
        return b"200 OK", json.dumps({
            "access_token": next(self.renewed), "token_type": "Bearer", "expires_in": 3600,
            "refresh_token": token + "+",
        }).encode()
