"""A container program that answers each payload with what it was given: arguments, model files, headers, variables."""

import http.server
import json
import os
import sys
from pathlib import Path

MODEL = Path(os.environ["SAGEMAKER_BASE_DIR"]) / "opt" / "ml" / "model"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self.answer(200 if self.path == "/ping" else 404, b"")

    def do_POST(self) -> None:
        payload = self.rfile.read(int(self.headers["Content-Length"]))
        seen = {
            "arguments": sys.argv[1:],
            "model": {str(path.relative_to(MODEL)): path.read_text() for path in MODEL.rglob("*") if path.is_file()},
            "payload": payload.hex(),
            "port": os.environ["SAGEMAKER_BIND_TO_PORT"],
            "content_type": self.headers.get("Content-Type"),
            "batch": {name: value for name, value in os.environ.items() if name.startswith("SAGEMAKER_BATCH")},
        }
        self.answer(200, json.dumps(seen, sort_keys=True).encode())


http.server.HTTPServer(("127.0.0.1", int(os.environ["SAGEMAKER_BIND_TO_PORT"])), Handler).serve_forever()
