import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from sklearn import datasets
from sklearn.model_selection import train_test_split
from tests.unit.algorithms.job_folder import JobFolder, Served, UnixConnection, serve

from millrace_algorithms import mxnet_arrays
from millrace_algorithms.record_tables import write_table
from millrace_algorithms.recordio import unframe
from millrace_algorithms.tables import Table

PCA = {"feature_dim": "4", "num_components": "2", "mini_batch_size": "500"}
KNN = {"k": "5", "predictor_type": "classifier", "sample_size": "500"}
UNLABELLED = "text/csv;label_size=0"
IRIS = datasets.load_iris().data.astype(np.float32)


def csv(rows: object) -> str:
    return "".join(",".join(map(str, row)) + "\n" for row in np.asarray(rows).tolist())


@pytest.fixture(scope="module")
def pca(tmp_path_factory: pytest.TempPathFactory) -> JobFolder:
    folder = JobFolder(tmp_path_factory.mktemp("pca")).configure(PCA, {"train": UNLABELLED, "test": UNLABELLED})
    folder.put("train", "iris.csv", csv(IRIS)).put("test", "iris.csv", csv(IRIS))
    code, log = folder.train("pca")
    (folder.root / "log").write_text(log)
    assert code == 0, log
    return folder


@pytest.fixture(scope="module")
def knn(tmp_path_factory: pytest.TempPathFactory) -> JobFolder:
    train, test, train_labels, test_labels = train_test_split(
        IRIS, datasets.load_iris().target, test_size=0.25, random_state=0
    )
    folder = JobFolder(tmp_path_factory.mktemp("knn")).configure(KNN, {"train": "text/csv", "test": "text/csv"})
    folder.put("train", "a.csv", csv(np.column_stack([train_labels, train])))
    folder.put("test", "a.csv", csv(np.column_stack([test_labels, test])))
    code, log = folder.train("knn")
    (folder.root / "log").write_text(log)
    assert code == 0, log
    return folder


@pytest.mark.spec("algorithms §2.2")
def test_pca_trains_and_logs_like_the_service(pca: JobFolder) -> None:
    """The entry point's line, the configuration, progress, the test score, the artifact."""
    log = (pca.root / "log").read_text().splitlines()
    assert log[0] == "Docker entrypoint called with argument(s): train"
    for start in ("Reading default configuration from", "Merging with provided configuration", "Final configuration:"):
        assert any(start in line for line in log)
    assert "#progress_metric: host=algo-1, completed 100.0 % of epochs" in log
    assert any(
        line.startswith("#quality_metric: host=algo-1, test reconstruction_error <loss>=0.02534") for line in log
    )
    assert json.loads(next(line for line in log if line.startswith("#metrics "))[9:])["Dimensions"]["Host"] == "algo-1"
    assert sorted(path.name for path in pca.model.iterdir()) == ["millrace.json", "model_algo-1"]


@pytest.mark.spec("algorithms §10.2")
def test_knn_trains_and_logs_like_the_service(knn: JobFolder) -> None:
    """Scores of the test channel as in the public iris notebook."""
    log = (knn.root / "log").read_text()
    assert "Got reservoir sample from algo-1: data=(112, 4), labels=(112,), NaNs=0" in log
    assert "Training index..." in log
    assert "#test_score (algo-1) : ('accuracy', 0.9736842105263158)\n" in log
    assert "#test_score (algo-1) : ('macro_f_1.000', 0.971703" in log
    assert "#quality_metric: host=algo-1, test accuracy <score>=0.9736842105263158\n" in log
    assert "#quality_metric: host=algo-1, test macro_f_1.000 <score>=0.971703" in log
    names = sorted(path.name for path in knn.model.iterdir())
    assert names == ["millrace.json", "model_algo-1", "model_algo-1.json", "model_algo-1.labels"]


def test_knn_warns_of_more_neighbours_than_rows(tmp_path: Path) -> None:
    """The model predicts from all rows; labels of a classifier are numbers, whole or not."""
    folder = JobFolder(tmp_path).configure({**KNN, "k": "500"}, {"train": "text/csv"})
    code, log = folder.put("train", "a.csv", "1.5,1\n1.5,2\n2,3\n").train("knn")
    assert code == 0, log
    assert "WARNING" in log
    assert "k=500 is more than the 3 rows of the sample: every prediction is made from all." in log
    with serve(folder, "knn", SAGEMAKER_MODEL_SERVER_WORKERS="1") as served:
        assert served.invoke("3", "text/csv", "text/csv")[2] == b"1.5\n"


@pytest.mark.spec("algorithms §3.6")
def test_all_formats_give_the_same_projections(pca: JobFolder) -> None:
    """Every content type with every Accept."""
    rows = IRIS[:3].astype(np.float64).round(1)
    bodies: dict[str, bytes | str] = {
        "text/csv": csv(rows),
        "text/csv; label_size=0": csv(rows),
        "application/json": json.dumps({"instances": [{"features": row} for row in rows.tolist()]}),
        "application/jsonlines": "\n".join(json.dumps({"features": row}) for row in rows.tolist()),
        "application/x-recordio-protobuf": write_table(Table(features=rows)),
    }
    expected = [[0.319397, -2.684126], [-0.177001, -2.714142], [-0.144949, -2.888991]]
    with serve(pca, "pca") as served:
        for content_type, body in bodies.items():
            status, answered, text = served.invoke(body, content_type, "application/json")
            assert (status, answered) == (200, "application/json")
            np.testing.assert_allclose(
                [record["projection"] for record in json.loads(text)["projections"]], expected, rtol=1e-4
            )
        lines = served.invoke(csv(rows), "text/csv", "application/jsonlines")[2]
        assert lines.endswith(b"]}\n")
        np.testing.assert_allclose([json.loads(x)["projection"] for x in lines.splitlines()], expected, rtol=1e-4)
        text = served.invoke(csv(rows), "text/csv", "text/csv")[2]
        np.testing.assert_allclose([list(map(float, x.split(b","))) for x in text.splitlines()], expected, rtol=1e-4)
        framed = served.invoke(csv(rows), "text/csv", "application/x-recordio-protobuf")[2]
        assert len(list(unframe(framed))) == 3
        assert served.invoke(csv(rows))[1] == "application/json"


@pytest.mark.spec("containers §5.3")
def test_knn_is_served_on_a_port(knn: JobFolder) -> None:
    """SAGEMAKER_BIND_TO_PORT, with the default answer of the service in JSON."""
    with serve(knn, "knn", port=True, SAGEMAKER_MODEL_SERVER_WORKERS="1") as served:
        assert served.request("GET", "/ping")[0] == 200
        row = "5.8,2.8,5.1,2.4"
        assert served.invoke(row, "text/csv")[2] == b'{"predictions":[{"predicted_label":2.0}]}'
        (verbose,) = json.loads(served.invoke(row, "text/csv", "application/json; verbose=true")[2])["predictions"]
        assert [len(verbose[name]) for name in ("distances", "labels")] == [5, 5]
        parameters = json.loads(served.request("GET", "/execution-parameters")[2])
        assert parameters == {"MaxConcurrentTransforms": 1, "BatchStrategy": "MULTI_RECORD", "MaxPayloadInMB": 6}


def test_knn_answers_large_payloads_from_workers(knn: JobFolder) -> None:
    """The index is inherited by the processes that the server forked."""
    with serve(knn, "knn", SAGEMAKER_MODEL_SERVER_WORKERS="2") as served:
        small = served.invoke(csv(IRIS), "text/csv", "text/csv")[2]
        assert served.invoke(csv(IRIS) * 100, "text/csv", "text/csv")[2] == small * 100


@pytest.mark.spec("algorithms §4.1")
@pytest.mark.parametrize("workers", ["1", "2"])
def test_bad_payloads_get_the_services_statuses(pca: JobFolder, workers: str) -> None:
    """In the server itself and in its workers, which take the large ones."""
    start = csv(IRIS[:2])
    filling = csv(IRIS) * 60
    with serve(pca, "pca", SAGEMAKER_MODEL_SERVER_WORKERS=workers) as served:
        for more in ("", filling):
            row = 3 + more.count("\n")
            for bad, status, text in (
                ("1,2,3,4,5\n", 400, f"unable to evaluate payload provided: expected 4 features, got 5 in row {row}"),
                (
                    "nan,inf,1e400,4\n",
                    400,
                    f"unable to evaluate payload provided: 'nan' is not finite in row {row}, column 1",
                ),
                ("1,2,x,4\n", 400, f"unable to evaluate payload provided: 'x' is not a number in row {row}, column 3"),
            ):
                got = served.invoke(start + more + bad, "text/csv")
                assert (got[0], got[2].decode()) == (status, text)
        assert served.invoke(start, "text/html")[0] == 415
        assert served.invoke(start, "text/csv", "image/png")[0] == 406
        assert served.invoke("", "text/csv")[0] == 400
        assert served.invoke("{", "application/json")[0] == 400
        assert served.invoke(b"\x0a\x23\xd7\xce", "application/x-recordio-protobuf")[0] == 400
        assert served.invoke("1,2,3,4", "text/csv;label_size=x")[0] == 400
        assert served.invoke(start, "text/csv")[0] == 200


def test_the_payload_limit_can_be_set(pca: JobFolder) -> None:
    """SAGEMAKER_MAX_PAYLOAD_IN_MB; the connection ends, the server does not."""
    with serve(pca, "pca", SAGEMAKER_MAX_PAYLOAD_IN_MB="1") as served:
        status, _, text = served.invoke("1,2,3,4\n" * 150_000, "text/csv")
        assert (status, text) == (413, b"payload must be at most 1048576 bytes")
        assert served.invoke("1,2,3,4\n" * 100_000, "text/csv")[0] == 200


@pytest.mark.spec("algorithms §3.7")
def test_the_default_answer_can_be_set(pca: JobFolder) -> None:
    """SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT stands in for a missing Accept only."""
    with serve(pca, "pca", SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT="text/csv") as served:
        assert served.invoke("1,2,3,4", "text/csv")[1] == "text/csv"
        assert served.invoke("1,2,3,4", "text/csv", "*/*")[1] == "text/csv"
        assert served.invoke("1,2,3,4", "text/csv", "application/json")[1] == "application/json"


def test_concurrent_large_payloads_are_not_mixed_up(pca: JobFolder) -> None:
    """Several connections, fewer workers, answers much larger than the payloads."""
    expected = {}
    with serve(pca, "pca", SAGEMAKER_MODEL_SERVER_WORKERS="2", SAGEMAKER_MAX_PAYLOAD_IN_MB="1") as served:
        path = pca.root / "serve.sock"

        def ask(number: int) -> None:
            connection = UnixConnection(path)
            client = Served(served.process, connection)
            body = f"{number},0,0,0\n" * (40_000 + number)
            for _ in range(3):
                expected[number] = client.invoke(body, "text/csv", "application/jsonlines")[2].splitlines()
            connection.close()

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert {number: (len(lines), len(set(lines))) for number, lines in expected.items()} == {
        number: (40_000 + number, 1) for number in range(6)
    }
    assert len({lines[0] for lines in expected.values()}) == 6


def test_a_worker_that_dies_costs_one_answer_only(pca: JobFolder) -> None:
    """As when the system is out of memory."""
    body = csv(IRIS) * 100
    with serve(pca, "pca", SAGEMAKER_MODEL_SERVER_WORKERS="2") as served:
        children = Path(f"/proc/{served.process.pid}/task/{served.process.pid}/children")
        if not children.exists():
            pytest.skip("needs /proc/<pid>/task/<tid>/children")
        first, _ = children.read_text().split()
        os.kill(int(first), signal.SIGKILL)
        statuses = [served.invoke(body, "text/csv")[0] for _ in range(4)]
        assert statuses.count(200) >= 3
        assert set(statuses) <= {200, 500}


@pytest.mark.spec("containers §2.5.4")
@pytest.mark.parametrize("algorithm", ["pca", "knn"])
def test_pipe_mode_trains_from_a_fifo(tmp_path: Path, algorithm: str) -> None:
    """recordio-protobuf, as the SDK sends it, without a content type."""
    table = Table(features=IRIS, labels=datasets.load_iris().target.astype(np.float32))
    folder = JobFolder(tmp_path).configure({"pca": PCA, "knn": KNN}[algorithm], {"train": None}, input_mode="Pipe")
    fifo = tmp_path / "input" / "data" / "train_0"
    os.mkfifo(fifo)
    with folder.training(algorithm) as process:
        fifo.write_bytes(write_table(table))
        log, _ = process.communicate(timeout=60)
    assert process.returncode == 0, log
    assert "Test data is not provided." in log
    assert (folder.model / "model_algo-1").exists()


@pytest.mark.spec("containers §2.8")
def test_sigterm_saves_what_was_learned(tmp_path: Path) -> None:
    """A job stopped in the middle of its data has a model of what came before."""
    folder = JobFolder(tmp_path).configure(PCA, {"train": UNLABELLED}, input_mode="Pipe")
    fifo = tmp_path / "input" / "data" / "train_0"
    os.mkfifo(fifo)
    with folder.training("pca") as process, fifo.open("wb") as stream:
        stream.write(csv(IRIS).encode() * 400)
        stream.flush()
        process.send_signal(signal.SIGTERM)
        log, _ = process.communicate(timeout=60)
    assert process.returncode == 0, log
    arrays = mxnet_arrays.decode((folder.model / "model_algo-1").read_bytes())
    assert arrays["v"].shape == (4, 2)


@pytest.mark.spec("algorithms §4.1")
@pytest.mark.parametrize(
    ("change", "content_type", "content", "reason"),
    [
        (
            {"mini_batch_siz": "5"},
            UNLABELLED,
            "1,2,3,4\n",
            "Additional properties are not allowed ('mini_batch_siz'",
        ),
        (
            {"feature_dim": "abc"},
            UNLABELLED,
            "1,2,3,4\n",
            "'abc' is not valid under any of the given schemas\n\nF",
        ),
        ({"num_components": "5"}, UNLABELLED, "1,2,3,4\n", "num_components must be at most feature_dim=4, got 5"),
        ({}, "text/html", "1,2,3,4\n", "Content type 'text/html' is not supported for channel 'train'"),
        ({}, UNLABELLED, "1,2,3\n", "cannot copy sequence with size 3 to array axis with dimension 4 (row 1 of a)"),
        ({}, UNLABELLED, "1,2,3,?\n", "'?' is not a number in row 1, column 4 of a"),
        ({}, UNLABELLED, "1,2,3,4\n1,2,nan,4\n", "'nan' is not finite in row 2, column 3 of a"),
        ({}, UNLABELLED, "\ufffd\x00\r1,2", "carriage return without a line feed in row 1 of a"),
        ({}, None, "1,2,3,4\n", "Unable to parse record. Please make sure input data is in correct recordio format."),
    ],
)
def test_a_users_fault_ends_with_2_and_its_reason(
    tmp_path: Path, change: dict[str, str], content_type: str | None, content: str, reason: str
) -> None:
    """The text is in output/failure and in the log."""
    folder = JobFolder(tmp_path).configure({**PCA, **change}, {"train": content_type}).put("train", "a", content)
    code, log = folder.train("pca")
    assert code == 2
    assert folder.failure.startswith(reason)
    assert f"Customer Error: {reason.splitlines()[0]}" in log
    assert not list(folder.model.iterdir())


def test_our_own_fault_ends_with_1(tmp_path: Path) -> None:
    """With the traceback in the log."""
    folder = JobFolder(tmp_path).configure(PCA, {"train": UNLABELLED}).put("train", "a", "1,2,3,4\n")
    folder.model.rmdir()
    folder.model.write_text("in the way")
    code, log = folder.train("pca")
    assert code == 1
    assert folder.failure.startswith("FileExistsError")
    assert "Traceback" in log


def test_a_model_that_cannot_be_loaded_is_not_served(tmp_path: Path) -> None:
    """The program ends at once and says why."""
    folder = JobFolder(tmp_path).configure(PCA, {})
    command = [sys.executable, "-m", "millrace_algorithms", "pca", "serve"]
    done = subprocess.run(command, env=folder.environment(), capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "Customer Error: the model directory holds no model_algo-1" in done.stderr


@pytest.mark.parametrize("arguments", [[], ["pca"], ["nothing", "train"], ["pca", "dance"]])
def test_wrong_arguments_show_the_usage(arguments: list[str]) -> None:
    """Exit code 64, EX_USAGE."""
    command = [sys.executable, "-m", "millrace_algorithms", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, "usage:" in done.stderr) == (64, True)


def test_serving_drains_on_sigterm(pca: JobFolder) -> None:
    """A request in flight is answered, new connections are not taken."""
    body = (csv(IRIS) * 400).encode()
    with serve(pca, "pca", SAGEMAKER_MODEL_SERVER_WORKERS="2") as served, socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(pca.root / "serve.sock"))
        sock.sendall(b"POST /invocations HTTP/1.1\r\nContent-Type: text/csv\r\nContent-Length: %d\r\n\r\n" % len(body))
        sock.sendall(body)
        assert served.request("GET", "/ping")[0] == 200  # by now the server has taken the first request in
        served.process.send_signal(signal.SIGTERM)
        assert sock.recv(64).startswith(b"HTTP/1.1 200 OK")
