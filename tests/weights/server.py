"""A web server on loopback that serves files like a release page and like the Hugging Face hub."""

import contextlib
import hashlib
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "c0ffee" + "0" * 34


class Server:
    """Serves `files`, `{path: bytes}`, with Range requests.

    A path "/user/repository/resolve/main/file" gets the hub's headers too.

    Attributes:
        url: "http://127.0.0.1:port".
        faults: what the next GET requests do instead of answering well, first in first out:
            a number is an HTTP status; "cut" sends half of what it announces; "ignore range" sends
            everything, whatever part was asked for; "damage" sends another content; "bare 206" is a
            part that does not say of what; "endless" never ends; "length abc" or any other "length
            X" announces X bytes; "silent" announces all and sends nothing; "trickle" sends a byte
            now and then.
        requests: "GET /path bytes=5-" and so on, as they came.
    """

    def __init__(self, port=0):
        self.files, self.faults, self.requests, self._digests = {}, [], [], {}
        self._ends = threading.Event()
        self._http = ThreadingHTTPServer(("127.0.0.1", port), _handler(self))
        self._http.handle_error = lambda *_: None  # a client that hangs up is part of the tests
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"

    @contextlib.contextmanager
    def running(self):
        thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield self
        finally:
            self._ends.set()
            self._http.shutdown()
            thread.join()
            self._http.server_close()

    def size(self, path):
        """Bytes that a file is announced with; `None` to leave it open until it is sent."""
        return len(self.files[path])

    def digest(self, path):
        """Hex sha256 of a file, computed once: some have gigabytes. `None` for no ETag."""
        content, (seen, digest) = self.files[path], self._digests.get(path, (None, None))
        if seen is not content:
            digest = hashlib.sha256(content).hexdigest()
            self._digests[path] = content, digest
        return digest

    def gets(self):
        """The GET requests that came."""
        return [request for request in self.requests if request.startswith("GET")]


def _handler(server):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args):
            pass

        def do_HEAD(self):
            self.answer(send_body=False)

        def do_GET(self):
            self.answer(send_body=True)

        def of_the_hub(self):
            if "/resolve/" in self.path:
                self.send_header("X-Repo-Commit", COMMIT)
                if (digest := server.digest(self.path)) is not None:
                    self.send_header("ETag", f'"{digest}"')

        def answer(self, send_body):
            asked = self.headers.get("Range", "")
            server.requests.append(f"{self.command} {self.path} {asked}".strip())
            fault = server.faults.pop(0) if server.faults and send_body else None
            if self.path not in server.files:
                fault = 404
            if isinstance(fault, int):
                self.send_response(fault)
                if "/resolve/" in self.path:
                    self.send_header("X-Repo-Commit", COMMIT)
                    self.send_header("X-Error-Code", "EntryNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return

            if fault == "endless":
                self.send_response(200)
                self.end_headers()
                self.close_connection = True
                while True:
                    self.wfile.write(bytes(1 << 16))

            if not send_body and not asked:
                self.send_response(200)
                self.of_the_hub()
                if (size := server.size(self.path)) is not None:
                    self.send_header("Content-Length", str(size))
                self.end_headers()
                return
            content = server.files[self.path]
            if fault == "damage":
                content = bytes(len(content))
            start = int(re.match(r"bytes=(\d+)-", asked)[1]) if asked else 0
            if start and fault != "ignore range":
                if start >= len(content):
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{len(content)}")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                self.send_response(206)
                last = len(content) - 1
                self.send_header("Content-Range", f"bytes {start}-{last}/{len(content)}")
                content = content[start:]
            else:
                self.send_response(206 if fault == "bare 206" else 200)
            self.of_the_hub()
            announced = str(len(content))
            if isinstance(fault, str) and fault.startswith("length "):
                announced = fault.removeprefix("length ")
                self.close_connection = True
            self.send_header("Content-Length", announced)
            self.end_headers()
            if send_body and fault in ("silent", "trickle"):
                self.close_connection = True
                while not server._ends.wait(0.05):
                    if fault == "trickle":
                        self.wfile.write(b"x")
                        self.wfile.flush()
                return
            if send_body:
                cut = fault == "cut"
                self.wfile.write(content[: len(content) // 2] if cut else content)
                self.close_connection = self.close_connection or cut

    return Handler
