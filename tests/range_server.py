"""A web server that serves byte ranges and can be made to fail."""

import re
import threading
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Handler(SimpleHTTPRequestHandler):
    """Answers `Range: bytes=A-B`; what is wrong with it is taken from the server's `faults`."""

    def do_GET(self):
        """One part of one file."""
        server = self.server
        if server.faults:
            fault = server.faults.pop(0)
            if fault == "hang up":
                self.close_connection = True
                self.connection.close()
                return
            if fault != "whole":
                self.send_error(fault)
                return
            super().do_GET()
            return
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(404)
            return
        begin, end = map(int, re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["Range"]).groups())
        with open(path, "rb") as file:
            file.seek(begin)
            part = file.read(end + 1 - begin)
        server.sent.append(len(part))
        self.send_response(206)
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)

    def log_message(self, *args):
        """Says nothing."""


@contextmanager
def range_server(folder):
    """Yields a server of a folder with `address`, `sent` (sizes) and `faults` (yet to come)."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    server.address = f"http://127.0.0.1:{server.server_address[1]}"
    server.sent, server.faults = [], []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
