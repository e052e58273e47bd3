"""Debian's chromium, headless, driven over its own debugging pipe: no driver, no other package.

`evaluate` runs an expression in the page and gives its value; `until` waits for one that is true.
"""

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.waiting import PATIENCE

_STARTS = 3
_SILENCE_SECONDS = 30.0

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --remote-debugging-pipe"
)

# The pipe's ends become descriptors 3 and 4, where chromium looks for them.
_START = """
import os, sys
read, write = (os.dup2(int(end), 60 + at) for at, end in enumerate(os.environ["PIPES"].split()))
os.dup2(read, 3)
os.dup2(write, 4)
os.execvp("chromium", ["chromium", *sys.argv[1:]])
"""


class Browser:
    """One browser with one tab, and a profile of its own in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "profile"
        self._said = folder / "chromium.log"
        tab = self._first_tab()
        self._session = self.call("Target.attachToTarget", targetId=tab, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def _first_tab(self) -> str:
        """The id of the tab that a chromium begins with, which now and then ends, or says nothing, before it has."""
        for left in reversed(range(_STARTS)):
            self._begin()
            try:
                targets = self.call("Target.getTargets")["targetInfos"]
                return next(str(item["targetId"]) for item in targets if item["type"] == "page")
            except (AssertionError, BrokenPipeError, StopIteration):
                self._end()
                if not left:
                    raise
        raise AssertionError(_STARTS)

    def _begin(self) -> None:
        """A chromium that nothing was asked of yet."""
        read, self._write = os.pipe()
        self._read, write = os.pipe()
        with self._said.open("ab") as said:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _START, *FLAGS.split(), f"--user-data-dir={self._folder}", "about:blank"],
                env={**os.environ, "PIPES": f"{read} {write}"},
                pass_fds=(read, write),
                stdout=said,
                stderr=said,
            )
        os.close(read)
        os.close(write)
        self._rest = b""
        self._count = 0
        self._session = ""
        self.complaints: list[str] = []

    def _end(self) -> None:
        self._process.kill()
        self._process.wait(30)
        os.close(self._read)
        os.close(self._write)
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._end()

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """A method of the DevTools protocol; its result."""
        self._count += 1
        message: dict[str, Any] = {"id": self._count, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            found = self._next()
            if found.get("id") == self._count:
                assert "error" not in found, found
                return dict(found["result"])
            if found.get("method") == "Runtime.exceptionThrown":
                self.complaints.append(found["params"]["exceptionDetails"].get("exception", {}).get("description", ""))
            elif found.get("method") == "Log.entryAdded" and found["params"]["entry"]["level"] == "error":
                self.complaints.append(found["params"]["entry"]["text"])

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._read], [], [], _SILENCE_SECONDS)
            more = os.read(self._read, 1 << 20) if ready else b""
            assert more, f"chromium {'has ended' if ready else 'says nothing'}: {self._said.read_text()[-2000:]}"
            self._rest += more
        line, _, self._rest = self._rest.partition(b"\0")
        return dict(json.loads(line))

    def look(self, width: int, height: int, *, dark: bool = False) -> None:
        """The window's size and the person's colours."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, url: str) -> None:
        self.call("Page.navigate", url=url)

    def evaluate(self, expression: str) -> Any:
        """The expression's value, as JSON has it."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def until(self, expression: str, seconds: float = PATIENCE) -> Any:
        """The expression's first value that is true."""
        deadline = time.monotonic() + seconds
        while not (value := self.evaluate(expression)):
            assert time.monotonic() < deadline, f"not within {seconds} s: {expression}; {self.complaints}"
            time.sleep(0.1)
        return value

    def save_into(self, folder: Path) -> None:
        """Save downloads there, under their own names, without asking."""
        self.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))

    def click(self, selector: str) -> None:
        """As a person's click: what a script does itself is not always let through."""
        place = self.evaluate(
            f"(() => {{ const found = document.querySelector({json.dumps(selector)}); found.scrollIntoView(); "
            "const at = found.getBoundingClientRect(); return [at.x + at.width / 2, at.y + at.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1)

    def type(self, text: str) -> None:
        """Into whatever has the keyboard's focus."""
        self.call("Input.insertText", text=text)

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))
