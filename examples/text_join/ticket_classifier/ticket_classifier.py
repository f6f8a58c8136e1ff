"""Sort customers' messages by topic, as a container that anyone could have written: no library at all.

    ticket_classifier.py train    reads /opt/ml/input, writes /opt/ml/model/topics.json
    ticket_classifier.py serve    answers GET /ping and POST /invocations on port 8080

Training data are JSON Lines, plain or gzip: {"text": "...", "topic": "..."}. A request is one such document without the
topic, or the text alone as a JSON string; the answer is {"topic": "...", "probability": 0.98}.

The model is multinomial naive Bayes on counts of words. Hyperparameter: smoothing (what is added to each count,
default 1.0).
"""

import gzip
import json
import math
import os
import re
import signal
import sys
from collections import Counter, defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

# The variables of SageMaker's own toolkits: so the program can also be tried without a container.
ML = Path(os.environ.get("SAGEMAKER_BASE_DIR", "/"), "opt/ml")
MODEL = ML / "model" / "topics.json"
PORT = int(os.environ.get("SAGEMAKER_BIND_TO_PORT", 8080))
WORD = re.compile(r"\w+")


def main(mode):
    """Run as SageMaker asks."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if mode == "train":
        try:
            train()
        except Exception as exc:
            (ML / "output" / "failure").write_text(f"{type(exc).__name__}: {exc}")
            raise
    elif mode == "serve":
        serve()
    else:
        raise SystemExit(f"the argument must be train or serve, got {mode!r}")


def words(text):
    """Return a text's words in lower case; whatever stands between them is of no interest."""
    return WORD.findall(text.lower())


def train():
    """Count the words of each topic in all files of the channel `train`."""
    given = json.loads((ML / "input/config/hyperparameters.json").read_text())  # every value is a string
    smoothing = float(given.get("smoothing", 1.0))
    messages, counts = Counter(), defaultdict(Counter)
    for path in sorted(path for path in (ML / "input/data/train").rglob("*") if path.is_file()):
        opener = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rt", encoding="utf-8") as lines:
            for line in lines:
                message = json.loads(line)
                messages[message["topic"]] += 1
                counts[message["topic"]].update(words(message["text"]))
    if not messages:
        raise ValueError("the channel train holds no message")
    vocabulary = sorted(set().union(*counts.values()))
    topics = {}
    for topic in sorted(messages):
        total = sum(counts[topic].values()) + smoothing * len(vocabulary)
        topics[topic] = {
            "prior": math.log(messages[topic] / sum(messages.values())),
            "words": {word: math.log((counts[topic][word] + smoothing) / total) for word in vocabulary},
        }
    MODEL.write_text(json.dumps(topics))
    print(f"#quality_metric: messages={sum(messages.values())} topics={len(topics)} words={len(vocabulary)}")


def classify(topics, text):
    """Return the likeliest topic and its probability; words that no training message had say nothing."""
    scores = {}
    for topic, model in topics.items():
        scores[topic] = model["prior"] + sum(model["words"].get(word, 0.0) for word in words(text))
    best = max(scores, key=scores.get)
    return {"topic": best, "probability": 1 / sum(math.exp(score - scores[best]) for score in scores.values())}


class Handler(BaseHTTPRequestHandler):
    """Answers with the model that `serve` has read."""

    protocol_version = "HTTP/1.1"
    topics = None

    def do_GET(self):
        """Answer /ping: a server that was started has its model."""
        self.answer(200 if self.path == "/ping" else 404, b"")

    def do_POST(self):
        """Answer one message."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path != "/invocations":
            self.answer(404, b"")
            return
        try:
            message = json.loads(body)
            text = message if isinstance(message, str) else message["text"]
        except (ValueError, KeyError, TypeError) as exc:
            self.answer(400, f"a request must be a message with a text, got {body[:60]!r} ({exc!r})".encode())
            return
        self.answer(200, json.dumps(classify(self.topics, text)).encode())

    def answer(self, status, body):
        """Send an answer."""
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Write no line for each request."""


def serve():
    """Read the model and answer until SIGTERM."""
    Handler.topics = json.loads(MODEL.read_text())
    print(f"serving {len(Handler.topics)} topics", flush=True)
    ThreadingHTTPServer(("", PORT), Handler).serve_forever()


if __name__ == "__main__":
    main(sys.argv[1])
