"""Finding the processes to kill, and making sure that none is left: only ever descendants of what the caller started."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import signal
import subprocess
import time
from pathlib import Path


def descendants(pid: int) -> list[int]:
    """All living children of ``pid``, their children and so on."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if fields[0] != "Z":
                    children.setdefault(int(fields[1]), []).append(int(entry.name))
    found, waiting = [], [pid]
    while waiting:
        own = children.get(waiting.pop(), [])
        found += own
        waiting += own
    return found


def command(pid: int) -> str:
    """Command line, or the title that a Ray worker gave itself; empty if the process is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def annotators(pid: int) -> list[int]:
    """The annotating Ray actors below ``pid``."""
    return [one for one in descendants(pid) if (title := command(one)).startswith("ray::") and "Annotate" in title]


def raylets(pid: int) -> list[int]:
    """The Ray node servers below ``pid``."""
    return [one for one in descendants(pid) if command(one).partition(" ")[0].endswith("/raylet")]


def kill(pid: int) -> bool:
    """SIGKILL; False if the process was gone already."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def wait_gone(pids: list[int], seconds: float) -> None:
    """Waits until the processes are gone, and kills those that are not after ``seconds``."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and any(command(pid) for pid in pids):
        time.sleep(0.1)
    for pid in pids:
        if command(pid):
            kill(pid)


def end(process: subprocess.Popen, seconds: float = 10) -> None:
    """Ends a process and all its descendants: politely, then by SIGKILL."""
    family = descendants(process.pid)
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
    if process.poll() is None:
        process.kill()
        process.wait()
    wait_gone(family, 3)


def listening(pids: list[int]) -> set[str]:
    """``address:port`` on which the processes wait for TCP connections; addresses as in /proc/net/tcp, decoded."""
    found = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            links = [os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir()]
            sockets = {link[8:-1] for link in links if link.startswith("socket:[")}
            for name in ("tcp", "tcp6"):
                for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]:
                    fields = line.split()
                    if fields[3] == "0A" and fields[9] in sockets:
                        found.add(_address(fields[1]))
    return found


def _address(text: str) -> str:
    """``0100007F:1F90`` is ``127.0.0.1:8080``: words of four bytes in the machine's order, then the port."""
    host, _, port = text.partition(":")
    words = [bytes.fromhex(host[start : start + 8])[::-1] for start in range(0, len(host), 8)]
    address = ipaddress.ip_address(b"".join(words))
    return f"{getattr(address, 'ipv4_mapped', None) or address}:{int(port, 16)}"
