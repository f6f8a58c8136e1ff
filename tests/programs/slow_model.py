"""A model server that tests kill: it answers each record with a digest, slowly, and writes down what it was asked.

JOURNAL=<file> gets a line per request before the answer: process id, number of records, first record (cut).
SLEEP=<seconds> before each answer; REFUSE=<text> refuses requests that hold it; FRAMED=1 gives bodies back.
FAIL_WHILE=<file> refuses requests that hold FAIL_AT=<text> as long as the file is there.
"""

import hashlib
import http.server
import os
import socketserver
import time
from pathlib import Path

SHOWN_BYTES = 40


def answer_of(body: bytes) -> bytes:
    """Return a line of CSV for each record, of a length that depends on the record."""
    if os.environ.get("FRAMED"):
        return body
    digests = (hashlib.sha256(row).hexdigest() for row in body.splitlines())
    return b"".join(f"{digest[: 4 + int(digest[0], 16)]},x\n".encode() for digest in digests)


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers /ping and /invocations."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def do_GET(self) -> None:
        """Be healthy, and wish nothing."""
        self.reply(200 if self.path == "/ping" else 404, b"")

    def do_POST(self) -> None:
        """Write the request down, then answer it."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        line = b"%d %d %s\n" % (os.getpid(), body.count(b"\n"), body[:SHOWN_BYTES].hex().encode())
        os.write(JOURNAL, line)
        time.sleep(SLEEP)
        refused, failing = os.environb.get(b"REFUSE"), os.environb.get(b"FAIL_AT")
        if refused and refused in body:
            return self.reply(400, b"no")
        if failing and failing in body and Path(os.environ["FAIL_WHILE"]).exists():
            return self.reply(400, b"not yet")
        return self.reply(200, answer_of(body))

    def reply(self, status: int, body: bytes) -> None:
        """Send an answer in one piece."""
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: thousands of lines help nobody."""


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """One thread for each connection."""

    daemon_threads = True
    request_queue_size = 64


if __name__ == "__main__":
    SLEEP = float(os.environ.get("SLEEP", "0"))
    JOURNAL = os.open(os.environ["JOURNAL"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    Server(("127.0.0.1", int(os.environ["SAGEMAKER_BIND_TO_PORT"])), Handler).serve_forever()
