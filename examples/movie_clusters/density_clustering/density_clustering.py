"""Density clustering of PCA projections, as a container that anyone could have written: no SageMaker library needed.

    density_clustering.py train    reads /opt/ml/input, writes /opt/ml/model/clusters.npz
    density_clustering.py serve    answers GET /ping and POST /invocations on port 8080

Training data and requests are what the built-in PCA answers: {"projections": [{"projection": [...]}, ...]}, in training
one such document a line. The answer is {"clusters": [...]}: for each projection the cluster of the nearest core point,
-1 where none is within `eps`.

Hyperparameters: eps (distance of neighbours, default 0.5), min_samples (neighbours of a core point, default 5),
components (how many of the strongest components count, which PCA puts last; default all).
"""

import json
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
from sklearn.cluster import DBSCAN
from sklearn.neighbors import NearestNeighbors

ML = Path("/opt/ml")
MODEL = ML / "model" / "clusters.npz"
PORT = 8080


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


def train():
    """Cluster all projections of the channel `train`, keep the core points."""
    given = json.loads((ML / "input/config/hyperparameters.json").read_text())  # every value is a string
    eps, min_samples = float(given.get("eps", 0.5)), int(given.get("min_samples", 5))
    components = int(given.get("components", 0))
    files = sorted(path for path in (ML / "input/data/train").rglob("*") if path.is_file())
    print(f"training on {len(files)} files, eps {eps}, min_samples {min_samples}, components {components or 'all'}")
    rows = np.concatenate([read_projections(path) for path in files])
    points = directions(rows, components)
    fitted = DBSCAN(eps=eps, min_samples=min_samples).fit(points)
    labels = fitted.labels_
    if not len(fitted.core_sample_indices_):
        raise ValueError(f"no point has {min_samples} neighbours within {eps}: nothing to cluster by")
    np.savez(MODEL, core=fitted.components_, label=labels[fitted.core_sample_indices_], eps=eps, components=components)
    print(f"#quality_metric: points={len(points)} clusters={labels.max() + 1} noise={(labels < 0).mean():.4f}")


def read_projections(path):
    """Return the rows of one output object of the transform: a document a line."""
    with path.open() as lines:
        documents = [json.loads(line) for line in lines if line.strip()]
    return np.array([each["projection"] for document in documents for each in document["projections"]])


def directions(rows, components):
    """Return each row at length 1, in its strongest components."""
    strongest = rows[:, -components:] if components else rows
    return strongest / np.linalg.norm(strongest, axis=1, keepdims=True)


def serve():
    """Answer on SageMaker's port until SIGTERM."""
    model = np.load(MODEL)  # arrays only: nothing in it is executed
    core, label, eps, components = model["core"], model["label"], float(model["eps"]), int(model["components"])
    nearest = NearestNeighbors(n_neighbors=1).fit(core)

    def predict(body):
        rows = np.array([each["projection"] for each in json.loads(body)["projections"]])
        distances, indices = nearest.kneighbors(directions(rows, components))
        return {"clusters": np.where(distances[:, 0] <= eps, label[indices[:, 0]], -1).tolist()}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self.answer(200 if self.path == "/ping" else 404, {})

        def do_POST(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            try:
                self.answer(200, predict(body))
            except (ValueError, KeyError, TypeError) as exc:
                self.answer(400, {"error": f"{type(exc).__name__}: {exc}"})

        def answer(self, status, document):
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format, *args):
            pass  # a line per record would fill the job's log

    print(f"serving {len(core)} core points of {label.max() + 1} clusters on port {PORT}")
    ThreadingHTTPServer(("0.0.0.0", PORT), Handler).serve_forever()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")
