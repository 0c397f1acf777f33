"""A Ray cluster of several nodes on this machine, each with an address, a folder and processes of its own to be killed."""

from __future__ import annotations

import itertools
import os
import random
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.faults.processes import annotators, descendants, end, kill, raylets, wait_gone

QUICK = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1",  # loopback addresses are taken as they are given
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "3000",
    "RAY_health_check_failure_threshold": "3",
}
"""A dead node is noticed in seconds."""


class Cluster:
    """A head without CPUs, on which only the driver runs, and worker nodes of one CPU; token authentication is on.

    A context manager; ``environment`` is what a driver needs to join ``address``.
    """

    def __init__(self, workers: int = 2):
        self.folder = Path(tempfile.mkdtemp(prefix="nr"))  # Unix sockets allow short paths only
        self.network = f"127.{random.SystemRandom().randrange(10, 250)}.{random.SystemRandom().randrange(250)}"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
            **QUICK,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "OMP_NUM_THREADS": "1",
        }
        self.numbers = itertools.count(2)
        self.size = workers
        self.nodes: list[subprocess.Popen] = []

    def __enter__(self) -> Cluster:
        port = _free_port(f"{self.network}.2")
        self.address = f"{self.network}.2:{port}"
        self.head = self._start("--head", "--port", str(port), "--include-dashboard", "false", "--num-cpus", "0")
        try:
            self._await(port)
            for _ in range(self.size):
                self.add_node()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for node in [*self.nodes, self.head]:
            end(node)
        shutil.rmtree(self.folder, ignore_errors=True)

    def add_node(self) -> None:
        """Starts a worker node; it joins within seconds."""
        self.nodes.append(self._start("--address", self.address, "--num-cpus", "1"))

    def restore(self) -> None:
        """Replaces the nodes that were killed."""
        self.nodes = [node for node in self.nodes if node.poll() is None]
        while len(self.nodes) < self.size:
            self.add_node()

    def annotators(self) -> list[int]:
        """The annotating actors on all nodes."""
        return [pid for node in self.nodes for pid in annotators(node.pid)]

    def kill_node(self, dice: random.Random) -> bool:
        """SIGKILL to the raylet of a worker node; False if there is none. Its workers end when they notice."""
        running = [node for node in self.nodes if node.poll() is None and raylets(node.pid)]
        if not running:
            return False
        node = dice.choice(running)
        family = descendants(node.pid)
        killed = all(map(kill, raylets(node.pid)))
        try:
            node.wait(15)
        except subprocess.TimeoutExpired:
            end(node)
        wait_gone(family, 10)
        return killed

    def _start(self, *options: str) -> subprocess.Popen:
        number = next(self.numbers)
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats"]
        command += ["--node-ip-address", f"{self.network}.{number}", "--temp-dir", str(self.folder / f"n{number}")]
        command += ["--object-store-memory", str(100 * 2**20), *options]
        with (self.folder / f"n{number}.log").open("w") as log:
            return subprocess.Popen(command, env=self.environment, stdout=log, stderr=log, start_new_session=True)

    def _await(self, port: int) -> None:
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline and self.head.poll() is None:
            with socket.socket() as probe:
                listening = probe.connect_ex((f"{self.network}.2", port)) == 0
            if listening and raylets(self.head.pid):
                return
            time.sleep(0.2)
        raise RuntimeError(f"Ray's head did not start: {(self.folder / 'n2.log').read_text()}")


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return probe.getsockname()[1]
