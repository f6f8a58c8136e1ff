"""A model server that answers as the request's body says, one command a line.

`send TEXT` sends a chunk, `wait PATH` waits until the file is there, `touch PATH` makes one, `break` drops the
connection, `exit N` ends the program, `flood N` sends N MiB, `status N` answers so and nothing else.
"""

import http.server
import os
import socketserver
import time
from pathlib import Path

POLL_SECONDS = 0.01


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self.answer(200 if self.path == "/ping" else 404, b"")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        commands = [line.partition(" ")[::2] for line in body.splitlines()]
        if commands[0][0] == "status":
            return self.answer(int(commands[0][1]), b"the model says no")
        self.send_response(200)
        self.send_header("Content-Type", "application/jsonlines")
        self.send_header("Transfer-Encoding", "chunked")
        self.send_header("X-Amzn-SageMaker-Custom-Attributes", "streamed")
        self.end_headers()
        for command, argument in commands:
            if command == "send":
                self.wfile.write(b"%x\r\n%b\r\n" % (len(argument), argument.encode()))
            elif command == "flood":
                self.flood(int(argument))
            elif command == "touch":
                Path(argument).touch()
            elif command == "wait":
                while not Path(argument).exists():
                    time.sleep(POLL_SECONDS)
            elif command == "break":
                self.close_connection = True
                return None
            elif command == "exit":
                print("leaving in mid-answer", flush=True)
                os._exit(int(argument))
        self.wfile.write(b"0\r\n\r\n")
        return None

    def flood(self, megabytes: int) -> None:
        """Send megabytes; say in the log when the reader is gone."""
        chunk = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"
        try:
            for _ in range(megabytes):
                self.wfile.write(chunk)
        except OSError:
            print("the reader is gone", flush=True)
            raise

    def log_message(self, format: str, *args: object) -> None:
        print("access", format % args, flush=True)


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True


if __name__ == "__main__":
    print("serving commands", flush=True)
    Server(("127.0.0.1", int(os.environ["SAGEMAKER_BIND_TO_PORT"])), Handler).serve_forever()
