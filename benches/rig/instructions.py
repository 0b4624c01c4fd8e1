"""Instructions a request, counted by callgrind: the figure that no neighbour on the machine disturbs.

Each subject runs twice, with few and with many requests; the difference of the two counts divided by
the difference in requests leaves out what starting costs. One thread, connections kept alive.
"""

import re
import socket

from .load import cookie
from .machine import HERE, OTHER_CORES, Failed

CONNECTIONS = 16
FEW_ROUNDS, MANY_ROUNDS = 10, 135
WARM_UP_ROUNDS = 3
START_LIMIT_S = 180


def instructions(rig, subject):
    few, many = (counted(rig, subject, rounds) for rounds in (FEW_ROUNDS, MANY_ROUNDS))
    return (many - few) / ((MANY_ROUNDS - FEW_ROUNDS) * CONNECTIONS)


def counted(rig, subject, rounds):
    counts = rig.folder / "callgrind.out"
    counts.unlink(missing_ok=True)
    valgrind = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={counts}"]
    # Not pinned to one core: valgrind runs one thread at a time anyhow.
    process = subject.process(rig, wrapped_in=valgrind, cores=OTHER_CORES, limit_s=START_LIMIT_S)
    with process:
        send(rig, subject, WARM_UP_ROUNDS + rounds)
    total = re.search(r"^(?:summary|totals): (\d+)", counts.read_text() if counts.exists() else "", re.M)
    if not total:
        raise Failed(f"callgrind counted nothing for {subject.name}; see {process.log}")
    return int(total[1])


def send(rig, subject, rounds):
    """All connections ask, then all answers are read: as even as a load can be."""
    requests = heads(rig, subject)
    connections = [socket.create_connection((HERE, subject.port), timeout=60) for _ in range(CONNECTIONS)]
    try:
        for _ in range(rounds):
            for connection in connections:
                connection.sendall(next(requests))
            for connection in connections:
                answer_of(connection)
    finally:
        for connection in connections:
            connection.close()


def heads(rig, subject):
    unseen = iter(rig.unseen_tokens()) if subject.tokens == "unseen" else None
    others = "".join(f"{name}: {value}\r\n" for name, value in subject.headers.items())
    while True:
        token = next(unseen) if unseen else rig.valid_token
        yield (
            f"GET {subject.path} HTTP/1.1\r\nHost: {HERE}:{subject.port}\r\n"
            f"{others}Cookie: {cookie(token)}\r\n\r\n"
        ).encode()


def answer_of(connection):
    data = b""
    while b"\r\n\r\n" not in data:
        data += received(connection)
    head, _, body = data.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200 "):
        raise Failed(f"unexpected answer: {head.decode(errors='replace')}")
    length = int(re.search(rb"(?i)content-length: *(\d+)", head)[1])
    while len(body) < length:
        body += received(connection)


def received(connection):
    data = connection.recv(65536)
    if not data:
        raise Failed("the proxy closed the connection")
    return data
