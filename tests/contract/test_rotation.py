"""Log rotation on a real containerd, under a container that goes on writing and a reader that goes on following."""

import contextlib
import threading
import time
from pathlib import Path

import pytest

from bridge.logrotation import LogRotation
from bridge.pb.runtime.v1 import api_pb2
from bridge.runtime import Runtime
from tests.contract.conftest import Guest
from tests.waiting import PATIENCE
from vkcri.config import RuntimeSettings
from vkcri.kubelet.follow import FolderWatches, follow
from vkcri.kubelet.logs import Options

pytestmark = [pytest.mark.container, pytest.mark.timeout(330)]
ROTATIONS = 8
# Bursts at full speed: at a burst's rotation the runtime still has lines for the old file when the new one is there.
BURST = 20_000
SCRIPT = f"""awk 'BEGIN {{ for (i = 0; ; i++) {{
    printf "line %d\\n", i
    if (i % {BURST} == 0) {{ fflush(); system("sleep 0.2") }}
}} }}'"""


def test_no_line_is_lost_or_repeated_across_rotations(containerd_settings: RuntimeSettings, tmp_path: Path) -> None:
    runtime = Runtime(containerd_settings.runtime_endpoint)
    guest = Guest(runtime, "rotate", tmp_path, containerd_settings.instance.cgroup_root)
    watches = FolderWatches()
    try:
        sandbox = guest.run()
        container = guest.start(sandbox, command=("sh", "-c", SCRIPT))
        path = Path(guest.container(container).log_path)
        seen: list[bytes] = []
        stop = threading.Event()

        def read() -> None:
            with watches.hints(path.parent) as hint:
                with contextlib.closing(
                    follow(path, Options(), hint, running=lambda: True, stop=stop.is_set)
                ) as blocks:
                    seen.extend(blocks)

        reader = threading.Thread(target=read)
        reader.start()
        clock = [time.time()]

        def read_on() -> bool:
            """Whether the reader has come to the newest file: one left behind by two rotations has lost lines."""
            with contextlib.suppress(OSError), path.open("rb") as file:
                for record in file:
                    text = record.split(b" ", 3)[-1]
                    if b" F line " in record and text.endswith(b"\n"):
                        return text in b"".join(seen)
            return False

        rotation = LogRotation(
            runtime, lambda: [(container, str(path))], most_bytes=20_000, most_files=4, now=lambda: clock[0]
        )
        deadline = time.monotonic() + 4 * PATIENCE
        done = 0
        while (not read_on() or done < ROTATIONS) and time.monotonic() < deadline:
            if done < ROTATIONS and read_on():
                clock[0] += 1
                inode = path.stat().st_ino
                rotation.look()
                done += path.stat().st_ino != inode
            time.sleep(0.02)
        stop.set()
        reader.join(PATIENCE)
        text = b"".join(seen)
        text = text[: text.rindex(b"\n") + 1]  # it may have been stopped behind a part of a line, a record of its own
        assert done == ROTATIONS
        assert text == b"".join(b"line %d\n" % number for number in range(text.count(b"\n")))
        names = sorted(item.name for item in path.parent.iterdir())
        assert 2 <= len(names) <= 4
        assert any(name.endswith(".gz") for name in names)
        state = runtime.container_status(api_pb2.ContainerStatusRequest(container_id=container)).status.state
        assert state == api_pb2.CONTAINER_RUNNING
    finally:
        watches.close()
        guest.clean()
        runtime.close()
