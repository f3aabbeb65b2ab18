"""A web server that serves byte ranges and can be made to fail."""

import re
import threading
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Handler(SimpleHTTPRequestHandler):
    """Serve `Range: bytes=A-B`, or the next of the server's `faults`."""

    def do_GET(self):
        """Send one part of one file."""
        path = Path(self.translate_path(self.path))
        fault = self.server.faults.pop(0) if self.server.faults else None
        if fault == "hang up":
            self.close_connection = True
            self.connection.close()
        elif fault == "whole":
            super().do_GET()
        elif fault or not path.is_file():
            self.send_error(fault or 404)
        else:
            begin, end = map(int, re.findall(r"\d+", self.headers["Range"]))
            part = path.read_bytes()[begin : end + 1]
            self.server.sent.append(len(part))
            self.send_response(206)
            self.send_header("Content-Length", str(len(part)))
            self.end_headers()
            self.wfile.write(part)

    def log_message(self, *args):
        """Print nothing."""


@contextmanager
def range_server(folder):
    """Yield a server of a folder with `address`, `sent` (sizes) and `faults` (yet to come)."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder))) as server:
        server.address = f"http://127.0.0.1:{server.server_address[1]}"
        server.sent, server.faults = [], []
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}).start()
        try:
            yield server
        finally:
            server.shutdown()
