"""What a run shows to others: nothing listens beyond this machine, and no credential of an input appears anywhere."""

from __future__ import annotations

import base64
import http.server
import ipaddress
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import neuface_ray
from neuface_ray.dataset.schema import TABLES
from tests.faults.disturbed import Command, rows
from tests.faults.processes import command as command_line
from tests.faults.processes import descendants, end, listening

PASSWORD, TOKEN = "hunter2secret", "s1gnaturesecret"


@pytest.fixture
def site(videos: Path) -> Iterator[str]:
    """A web server that shows the videos to those who know the password and the token; its address with both."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object):
            super().__init__(*arguments, directory=str(videos))

        def do_GET(self) -> None:
            wanted = "Basic " + base64.b64encode(f"user:{PASSWORD}".encode()).decode()
            if self.headers.get("Authorization") != wanted or f"token={TOKEN}" not in self.path:
                self.send_error(403)
                return
            super().do_GET()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://user:{PASSWORD}@127.0.0.1:{server.server_port}/{{}}?token={TOKEN}"
    server.shutdown()
    thread.join()


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """Ray's sockets need a short path."""
    folder = Path(tempfile.mkdtemp(prefix="nr"))
    yield folder
    shutil.rmtree(folder)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_local_run_is_private(site: str, videos: Path, undisturbed: Path, short_folder: Path, tmp_path: Path):
    manifest, output = tmp_path / "list.csv", tmp_path / "out"
    names = ("0.mp4", "1.mp4", "missing.mp4")
    manifest.write_text("uri,sequence\n" + "".join(f"{site.format(name)},{name}\n" for name in names))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {"RAY_TMPDIR": str(short_folder)}
    more = ("ray.num_cpus=1", "media.allow_outside_root=true")
    command = Command(manifest, output, tmp_path / "log", more, environment)
    process, addresses, settings = command.start(), set(), {}
    try:
        deadline = time.monotonic() + 480
        while process.poll() is None and time.monotonic() < deadline:
            family = descendants(process.pid)
            addresses |= listening([process.pid, *family])
            servers = [pid for pid in family if "/gcs_server" in command_line(pid)]
            settings = next(map(environment_of, servers), None) or settings
            time.sleep(0.2)
        assert process.wait(5) == 3, command.log.read_text()
    finally:
        end(process)
    assert len(addresses) >= 3, "Ray was not seen listening"
    assert not [one for one in addresses if not ipaddress.ip_address(one.rpartition(":")[0]).is_loopback]
    assert (settings["RAY_AUTH_MODE"], len(settings["RAY_AUTH_TOKEN"])) == ("token", 64)

    assert len(rows(output, "frames")) == 20
    (lost,) = rows(output, "quarantine")
    assert lost["source_uri"].endswith("/missing.mp4")
    written = [path for folder in (output, short_folder) for path in folder.rglob("*") if path.is_file()]
    assert any("logs" in path.parts for path in written), "Ray's logs were not found"
    texts = [path.read_bytes() for path in written] + [command.log.read_bytes()]
    texts += [str(neuface_ray.open(str(output)).table(name).to_pylist()).encode() for name in TABLES[:1] + TABLES[2:]]
    for secret in (PASSWORD, TOKEN):
        assert not [text for text in texts if secret.encode() in text]


def environment_of(pid: int) -> dict[str, str]:
    try:
        lines = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return {}
    return dict(line.partition("=")[::2] for line in lines)
