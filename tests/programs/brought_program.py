"""A container program as users bring them: standard library only, behaviour chosen by variables and hyperparameters.

serve: MODE=echo|rowsum|tag|status|die|no-ping|no-settings, WAIT_FOR=<file> answers only once that file exists,
DIE_ON=<text> lets `die` end only at a body with that text,
JOURNAL=<file> gets a line with our process id when a request comes and when it is answered.
DEAF=<file> makes that file at SIGTERM, and goes on.
train: hyperparameter do=look|fail|ramble|crash|wait|pipe|environment.
else, as a processor: DO=look|fail|wait|message|links|hostile|continuous|pipe; DO_algo_2 says it for one host.
"""

import http.server
import json
import os
import signal
import socketserver
import sys
import threading
import time
from pathlib import Path

BASE = Path(os.environ["SAGEMAKER_BASE_DIR"]) / "opt" / "ml"
POLL_SECONDS = 0.01


def serve() -> None:
    mode = os.environ.get("MODE", "echo")
    if mode == "exit":
        print("refusing to start: no licence", flush=True)
        sys.exit(9)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "text/csv")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            if mode == "no-settings" and self.path == "/execution-parameters":
                print("asked for settings", flush=True)
                threading.Event().wait()
            ok = self.path == "/ping" and mode != "no-ping"
            self.answer(200 if ok else 404, b"")

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            note()
            try:
                self.predict(body)
            finally:
                note()

        def predict(self, body: bytes) -> None:
            gate = os.environ.get("WAIT_FOR")
            while gate and not Path(gate).exists():
                time.sleep(POLL_SECONDS)
            if mode == "die" and os.environ.get("DIE_ON", "").encode() in body:
                print("dying in mid-request", flush=True)
                os._exit(7)
            if mode == "status":
                return self.answer(int(os.environ["STATUS"]), b"the model says no")
            if mode == "rowsum":
                rows = body.decode().split()
                return self.answer(200, "\n".join(str(sum(map(int, row.split(",")))) for row in rows).encode())
            if mode == "tag":  # so that a row tells which containers it passed
                tag = b"," + os.environ["WHO"].encode()
                return self.answer(200, b"".join(row + tag + b"\n" for row in body.splitlines()))
            if mode == "who":
                return self.answer(200, os.environ["WHO"].encode())
            return self.answer(200, body)

        def log_message(self, format: str, *args: object) -> None:
            print("access", format % args, flush=True)

    def note() -> None:
        if journal := os.environ.get("JOURNAL"):
            with Path(journal).open("a") as file:
                file.write(f"{os.getpid()}\n")

    class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
        daemon_threads = True
        request_queue_size = 64

    if deaf := os.environ.get("DEAF"):
        signal.signal(signal.SIGTERM, lambda *_: Path(deaf).touch())
    print("serving", mode, sorted(path.name for path in (BASE / "model").iterdir()), flush=True)
    Server(("127.0.0.1", int(os.environ["SAGEMAKER_BIND_TO_PORT"])), Handler).serve_forever()


def train() -> None:
    config = BASE / "input" / "config"
    hyperparameters = json.loads((config / "hyperparameters.json").read_text())
    host = json.loads((config / "resourceconfig.json").read_text())["current_host"]
    do = hyperparameters.get("do", "look")
    print("training on", host, "do", do, flush=True)
    if do == "environment":
        print("environment", *sorted(os.environ), flush=True)
        return
    if do == "fail":
        (BASE / "output" / "failure").write_text("the data smells")
        sys.exit(3)
    if do == "ramble":
        (BASE / "output" / "failure").write_text("x" * 2000)
        sys.exit(3)
    if do == "crash":
        print("boom on stderr", file=sys.stderr, flush=True)
        sys.exit(7)
    if do == "wait":

        def stop(number: int, frame: object) -> None:
            (BASE / "model" / "stopped.txt").write_text("saved on SIGTERM")
            sys.exit(0)

        signal.signal(signal.SIGTERM, stop)
        print("waiting", flush=True)
        while True:
            signal.pause()
    if do == "pipe":
        sizes = [len((BASE / "input" / "data" / f"train_{epoch}").read_bytes()) for epoch in range(2)]
        (BASE / "model" / "seen.json").write_text(json.dumps(sizes))
        return
    data = BASE / "input" / "data"
    seen = {
        "argv": sys.argv[1:],
        "hyperparameters": hyperparameters,
        "inputdata": json.loads((config / "inputdataconfig.json").read_text()),
        "resource": json.loads((config / "resourceconfig.json").read_text()),
        "files": {str(path.relative_to(data)): path.stat().st_size for path in data.rglob("*") if path.is_file()},
        "environment": {name: os.environ.get(name) for name in ("TRAINING_JOB_NAME", "MY_SETTING", "AWS_REGION")},
        "checkpoints": sorted(path.name for path in (BASE / "checkpoints").glob("*")),
    }
    (BASE / "model" / f"seen-{host}.json").write_text(json.dumps(seen))
    (BASE / "output" / "data" / f"report-{host}.txt").write_text("report")
    if (BASE / "checkpoints").is_dir():
        (BASE / "checkpoints" / f"step-{host}.txt").write_text("checkpoint")
    for epoch in range(3):
        print(f"epoch={epoch} loss={1 / (epoch + 1):.4f}", flush=True)


def process() -> None:
    resource = json.loads((BASE / "config" / "resourceconfig.json").read_text())
    host = resource["current_host"]
    do = os.environ.get("DO_" + host.replace("-", "_"), os.environ.get("DO", "look"))
    print("processing on", host, "do", do, flush=True)
    out = BASE / "processing" / "out"
    if do == "fail":
        (BASE / "output" / "message").write_text("asked to fail")
        (out / "partial.txt").write_text("what there was")
        print("boom on stderr", file=sys.stderr, flush=True)
        sys.exit(4)
    if do == "message":
        (BASE / "output" / "message").write_bytes(os.environb[b"MESSAGE"] * int(os.environ.get("TIMES", "1")))
        return
    if do == "links":
        (out / "plain.txt").write_text("plain")
        (out / "link.txt").symlink_to("/etc/hostname")
        (out / "inside.txt").symlink_to("plain.txt")
        (out / "folder").symlink_to("/etc")
        return
    if do == "hostile":
        (BASE / "output" / "message").symlink_to("/etc/passwd")
        out.rmdir()
        out.symlink_to("/etc")
        return
    if do == "continuous":
        (out / "early.txt").write_text("early")
        gate = Path(os.environ["WAIT_FOR"])
        while not gate.exists():
            time.sleep(POLL_SECONDS)
        (out / "late.txt").write_text("late")
        return
    if do == "wait":

        def stop(number: int, frame: object) -> None:
            (out / "stopped.txt").write_text("saved on SIGTERM")
            (BASE / "output" / "message").write_text("stopped in time")
            sys.exit(143)

        (out / f"attempt-{os.getpid()}.txt").write_text("attempt")
        signal.signal(signal.SIGTERM, stop)
        print("waiting", flush=True)
        while True:
            signal.pause()
    if do == "pipe":
        sizes = [len((BASE / "processing" / "in" / f"rows_{epoch}").read_bytes()) for epoch in range(2)]
        (out / "seen.json").write_text(json.dumps(sizes))
        return
    root = BASE / "processing"
    seen = {
        "argv": sys.argv[1:],
        "resource": resource,
        "config": json.loads((BASE / "config" / "processingjobconfig.json").read_text()),
        "files": {str(path.relative_to(root)): path.read_text() for path in root.rglob("*") if path.is_file()},
        "environment": {
            name: os.environ.get(name) for name in ("PROCESSING_JOB_NAME", "PROCESSING_JOB_ARN", "COLOUR", "AWS_REGION")
        },
        "opt_ml": sorted(path.name for path in BASE.iterdir()),
    }
    (out / "deep").mkdir()
    (out / "deep" / f"seen-{host}.json").write_text(json.dumps(seen))


if __name__ == "__main__":
    {"train": train, "serve": serve}.get("".join(sys.argv[1:2]), process)()
