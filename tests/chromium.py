"""A headless Chromium, driven by the DevTools protocol through two pipes."""

import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager, suppress
from itertools import count
from select import select

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = "--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run"
FLAGS += " --disable-background-networking --remote-debugging-pipe"


def find_chromium():
    """The path of the program; None if there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def open_page(url, width=1200, height=1600):
    """A `Page` of a new browser, which has its own profile and ends with the block."""
    to_browser, from_here = os.pipe()
    to_here, from_browser = os.pipe()
    # The browser reads from its descriptor 3 and writes to 4. The shell may hold ours there.
    script = 'exec 8<&"$1" 9>&"$2"; shift 2; exec "$@" 3<&8 4>&9 8<&- 9>&-'
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = [find_chromium(), *FLAGS.split(), f"--user-data-dir={profile}"]
        ends = (to_browser, from_browser)
        process = subprocess.Popen(
            ["bash", "-c", script, "bash", *map(str, ends), *browser, "about:blank"],
            pass_fds=ends,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for end in ends:
            os.close(end)
        try:
            page = Page(from_here, to_here)
            page.resize(width, height)
            page.call("Page.navigate", url=url)
            yield page
        finally:
            with suppress(OSError, EOFError, TimeoutError):
                page.call("Browser.close")
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            os.close(from_here)
            os.close(to_here)


class Page:
    """One tab. Each call waits for its result, at most `TIMEOUT` seconds."""

    TIMEOUT = 120

    def __init__(self, writing, reading):
        self.writing, self.reading, self.buffer, self.numbers = writing, reading, b"", count(1)
        self.session = None
        targets = self.call("Target.getTargets")["targetInfos"]
        (tab,) = [target["targetId"] for target in targets if target["type"] == "page"]
        attached = self.call("Target.attachToTarget", targetId=tab, flatten=True)
        self.session = attached["sessionId"]
        self.call("Page.enable")

    def call(self, method, **parameters):
        """Call a method of the protocol and return its result."""
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": parameters}
        message |= {"sessionId": self.session} if self.session else {}
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self.writing, data) :]
        while True:
            reply = self._receive()
            if reply.get("id") == number:
                assert "error" not in reply, reply["error"]
                return reply["result"]

    def _receive(self):
        while b"\0" not in self.buffer:
            if not select([self.reading], [], [], self.TIMEOUT)[0]:
                raise TimeoutError("the browser does not respond")
            part = os.read(self.reading, 2**16)
            if not part:
                raise EOFError("the browser has ended")
            self.buffer += part
        message, _, self.buffer = self.buffer.partition(b"\0")
        return json.loads(message)

    def run(self, code):
        """Value of the body of an asynchronous JavaScript function."""
        code = f"(async () => {{ {code} }})()"
        options = {"awaitPromise": True, "returnByValue": True, "userGesture": True}
        reply = self.call("Runtime.evaluate", expression=code, **options)
        assert "exceptionDetails" not in reply, reply["exceptionDetails"]
        return reply["result"].get("value")

    def wait_for(self, condition):
        """Wait until a JavaScript expression is true; while it cannot be computed it is not."""
        code = f"try {{ return Boolean({condition}) }} catch {{ return false }}"
        end = time.monotonic() + self.TIMEOUT
        while not self.run(code):
            if time.monotonic() > end:
                raise TimeoutError(f"{condition}\n{self.run('return document.body.innerText')}")
            time.sleep(0.05)

    def choose_file(self, selector, path):
        """Choose a file in an input, as a person would."""
        path = os.path.realpath(path)  # the browser cannot read a file whose path has ".."
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", files=[path], nodeId=node)

    def drop_file(self, selector, path):
        """Drag a file from outside the browser onto an element."""
        box = f"document.querySelector({selector!r}).getBoundingClientRect()"
        x, y = self.run(f"const box = {box}; return [box.x + box.width / 2, box.y + 9]")
        data = {"items": [], "files": [os.path.realpath(path)], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.call("Input.dispatchDragEvent", type=kind, x=x, y=y, data=data)

    def resize(self, width, height):
        """Set the size of the window's content in CSS pixels."""
        metrics = {"deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, **metrics)

    def screenshot(self):
        """The visible page as a PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot")["data"])
