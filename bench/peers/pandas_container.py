"""A container as data scientists write them: Flask, pandas, a linear model on 100 columns, served by gunicorn.

    python pandas_container.py serve

It serves as SageMaker's examples of own containers do: a `sync` worker for each core, 60 seconds for a request.
"""

import io
import os
import sys
from pathlib import Path

import flask
import numpy as np
import pandas as pd

COLUMNS = 100

app = flask.Flask(__name__)
weights = np.random.default_rng(1).standard_normal(COLUMNS)


@app.route("/ping", methods=["GET"])
def ping() -> flask.Response:
    """Tell that the container is healthy."""
    return flask.Response("\n", status=200, mimetype="application/json")


@app.route("/invocations", methods=["POST"])
def invocations() -> flask.Response:
    """Predict a row of the answer for each row of CSV."""
    if flask.request.content_type != "text/csv":
        return flask.Response("This predictor only supports CSV data", status=415, mimetype="text/plain")
    rows = pd.read_csv(io.StringIO(flask.request.data.decode("utf-8")), header=None)
    answer = io.StringIO()
    predictions = np.round(rows.to_numpy() @ weights + 0.5, 6)
    pd.DataFrame({"results": predictions}).to_csv(answer, header=False, index=False)
    return flask.Response(answer.getvalue(), status=200, mimetype="text/csv")


def main() -> None:
    """Become gunicorn."""
    host = os.environ.get("SAGEMAKER_BIND_ADDRESS", "127.0.0.1")
    port = os.environ.get("SAGEMAKER_BIND_TO_PORT", "8080")
    options = ["--timeout", "60", "-k", "sync", "-w", str(os.cpu_count()), "-b", f"{host}:{port}"]
    command = [
        sys.executable,
        "-m",
        "gunicorn",
        *options,
        "--chdir",
        str(Path(__file__).parent),
        "pandas_container:app",
    ]
    os.execv(sys.executable, command)


if __name__ == "__main__":
    main()
