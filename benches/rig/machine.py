"""Processes that the bench starts, watches and ends: by their own id, never by name."""

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

HERE = "127.0.0.1"
START_LIMIT_S = 60
STOP_LIMIT_S = 10
# One core for the proxy that is measured, the others for the load and the origin.
CORES = sorted(os.sched_getaffinity(0))
PROXY_CORE = CORES[:1]
OTHER_CORES = CORES[1:] or CORES
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class Failed(Exception):
    """What the person at the terminal must know; no traceback."""


def free_port():
    with socket.socket() as s:
        s.bind((HERE, 0))
        return s.getsockname()[1]


def pinned(cores):
    return lambda: os.sched_setaffinity(0, cores)


class Process:
    """One part of the rig, from `with` to the end of its block."""

    def __init__(self, name, argv, port, folder, cores=OTHER_CORES, limit_s=START_LIMIT_S, quiet=False):
        self.name, self.argv, self.port, self.cores = name, [str(a) for a in argv], port, cores
        self.log = Path("/dev/null") if quiet else folder / f"{name}.log"
        self.limit_s = limit_s

    def __enter__(self):
        with open(self.log, "wb") as log:
            self.child = subprocess.Popen(
                self.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                preexec_fn=pinned(self.cores),
            )
        try:
            self._wait_until_it_listens()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        # SIGINT: what ends Pingora and the gateway at once, and lets valgrind write its counts.
        for sign, limit_s in ((signal.SIGINT, STOP_LIMIT_S), (signal.SIGTERM, 2), (signal.SIGKILL, 2)):
            if self.child.poll() is None:
                self.child.send_signal(sign)
                try:
                    self.child.wait(limit_s)
                except subprocess.TimeoutExpired:
                    continue

    def _wait_until_it_listens(self):
        end = time.monotonic() + self.limit_s
        while time.monotonic() < end:
            if self.child.poll() is not None:
                raise Failed(f"{self.name} ended with {self.child.returncode}; see {self.log}")
            try:
                socket.create_connection((HERE, self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise Failed(f"{self.name} does not listen on {self.port}; see {self.log}")

    def _family(self):
        """The process and its children: nginx and HAProxy work in one."""
        pids, found = [self.child.pid], []
        while pids:
            pid = pids.pop()
            found.append(pid)
            for task in Path(f"/proc/{pid}/task").glob("*/children"):
                pids += [int(child) for child in task.read_text().split()]
        return found

    def cpu_s(self):
        """User and system time so far."""
        ticks = 0
        for pid in self._family():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / TICKS_PER_SECOND

    def memory_mib(self):
        """Resident memory now."""
        kib = 0
        for pid in self._family():
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("VmRSS:"):
                    kib += int(line.split()[1])
        return kib / 1024
