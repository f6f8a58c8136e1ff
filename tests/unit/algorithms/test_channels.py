import io
import os
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from millrace_algorithms.channels import Channel
from millrace_algorithms.container import ChannelConfig
from millrace_algorithms.errors import InputError
from millrace_algorithms.log import Log
from millrace_algorithms.record_tables import write_table
from millrace_algorithms.recordio import frame
from millrace_algorithms.stopping import StopSignal
from millrace_algorithms.tables import SparseRows, Table, rebatch

PROTOBUF = "application/x-recordio-protobuf"


def channel(
    folder: Path, content_type: str | None, *, input_mode: str = "File", record_wrapper: str = "None"
) -> Channel:
    return Channel(
        config=ChannelConfig(
            name="train", content_type=content_type, input_mode=input_mode, record_wrapper=record_wrapper
        ),
        data_dir=folder,
        default_content_type=PROTOBUF,
        content_types=(PROTOBUF, "text/csv"),
        log=Log(io.StringIO()),
        stop=StopSignal(),
    )


def put(folder: Path, **files: bytes) -> Path:
    (folder / "train").mkdir()
    for name, content in files.items():
        path = folder / "train" / name.replace("__", "/")
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    return folder


def rows(tables: Sequence[Table]) -> list[list[float]]:
    return [row for table in tables for row in table.dense().tolist()]


def labels(tables: Sequence[Table]) -> list[float]:
    return [label for table in tables for label in table.label_column().tolist()]


def feed(path: Path, content: bytes) -> threading.Thread:
    """Write a FIFO as the platform does: it exists first, and opens once a reader does."""

    def write() -> None:
        os.mkfifo(path)
        with path.open("wb") as stream:
            stream.write(content)

    thread = threading.Thread(target=write)
    thread.start()
    return thread


def test_files_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    """Sub-folders included, hidden files not; a file need not end in a newline."""
    folder = put(tmp_path, b=b"0,3\n", a=b"0,1\n0,2", sub__c=b"0,4\n\n")
    (folder / "train" / ".hidden").write_bytes(b"x")
    assert rows(list(channel(folder, "text/csv;label_size=1").tables(labelled=True))) == [[1], [2], [3], [4]]


@pytest.mark.spec("algorithms §3.4")
def test_plain_csv_has_a_label_column_unless_only_without_fits(tmp_path: Path) -> None:
    """An algorithm without labels warns and takes rows of just feature_dim numbers as they are."""
    plain = channel(put(tmp_path, a=b"9,1,2\n8,3,4\n"), "text/csv")
    assert rows(list(plain.tables(feature_dim=2, labelled=False))) == [[1, 2], [3, 4]]
    assert rows(list(plain.tables(feature_dim=3, labelled=False))) == [[9, 1, 2], [8, 3, 4]]
    stream = plain.log.stream
    assert isinstance(stream, io.StringIO)
    assert "taken as unlabelled" in stream.getvalue()
    assert labels(list(plain.tables(labelled=True))) == [9, 8]


@pytest.mark.spec("algorithms §3.4")
def test_label_size_says_what_the_first_column_is(tmp_path: Path) -> None:
    """Any spelling of text/csv;label_size=0."""
    unlabelled = channel(put(tmp_path, a=b"1,2\n"), "Text/CSV; Label_Size = 0")
    (table,) = unlabelled.tables(feature_dim=2, labelled=False)
    assert (table.dense().tolist(), table.labels) == ([[1, 2]], None)


@pytest.mark.spec("algorithms §2.1")
def test_a_channel_without_content_type_holds_records(tmp_path: Path) -> None:
    """As the SDK's record_set() uploads them."""
    table = Table(features=np.array([[1, 2], [3, 4]], np.float32), labels=np.array([5, 6], np.float32))
    tables = list(channel(put(tmp_path, matrix_0=write_table(table)), None).tables(feature_dim=2, labelled=True))
    assert (rows(tables), labels(tables)) == ([[1, 2], [3, 4]], [5, 6])


@pytest.mark.spec("algorithms §4.1")
@pytest.mark.parametrize(
    ("content_type", "content", "message"),
    [
        (
            "text/csv;label_size=0",
            b"1,2\n1,2,3\n",
            r"^cannot copy sequence with size 3 to array axis with dimension 2 \(row 2 of a\)$",
        ),
        ("text/csv;label_size=0", b"1,x\n", "^'x' is not a number in row 1, column 2 of a$"),
        ("text/csv;label_size=0", b"\n", "^channel 'train' holds no rows$"),
        ("text/csv;label_size=2", b"1,2\n", "^channel 'train': label_size must be 0 or 1, got 2$"),
        ("text/csv;label_size=x", b"1,2\n", "^channel 'train': label_size must be an integer"),
        (
            PROTOBUF,
            b"1,2\n3,4\n5,6\n",
            "^Unable to parse record. Please make sure input data is in correct recordio format. ",
        ),
        ("text/html", b"", "^Content type 'text/html' is not supported for channel 'train'$"),
    ],
)
def test_bad_data_are_told_in_the_services_words(
    tmp_path: Path, content_type: str, content: bytes, message: str
) -> None:
    """With the row and the file, which the service leaves out."""
    with pytest.raises(InputError, match=message):
        list(channel(put(tmp_path, a=content), content_type).tables(feature_dim=2, labelled=False))


SPARSE_NAN = SparseRows(
    offsets=np.array([0, 1, 3], np.int64),
    keys=np.array([0, 1, 2]),
    values=np.array([1, 2, np.nan], np.float32),
    width=3,
)


@pytest.mark.parametrize(
    ("content_type", "content", "message"),
    [
        ("text/csv", b"1,2,3\n1,2,nan\n", "^'nan' is not finite in row 2, column 3 of a$"),
        ("text/csv;label_size=0", b"1,2\n-Inf,2\n", "^'-inf' is not finite in row 2, column 1 of a$"),
        ("text/csv", b"1,1e400\n", "^'inf' is not finite in row 1, column 2 of a$"),
        ("text/csv", b"1,2\n" * 999_999 + b"1,1e39\n", r"^'1e\+39' is not finite as float32 in row 1000000, column 2"),
        (PROTOBUF, write_table(Table(features=np.array([[1, 2], [3, np.inf]]))), "^'inf' .* in row 2, column 2 of a$"),
        (PROTOBUF, write_table(Table(features=SPARSE_NAN)), "^'nan' is not finite in row 2, column 3 of a$"),
    ],
)
def test_a_number_that_is_not_finite_is_named(tmp_path: Path, content_type: str, content: bytes, message: str) -> None:
    """With file, row and column, in every content type; a model of float32 numbers cannot be learned from it."""
    with pytest.raises(InputError, match=message):
        list(channel(put(tmp_path, a=content), content_type).tables(labelled=False))


def test_labels_must_be_finite_if_they_are_used(tmp_path: Path) -> None:
    """An algorithm without labels does not look at them."""
    text = channel(put(tmp_path, a=b"1,2\nnan,3\n"), "text/csv")
    with pytest.raises(InputError, match=r"^'nan' is not finite in row 2, column 1 of a$"):
        list(text.tables(labelled=True))
    assert rows(list(text.tables(labelled=False))) == [[2], [3]]
    table = Table(features=np.ones((2, 1), np.float32), labels=np.array([0, np.inf], np.float32))
    (tmp_path / "train" / "a").write_bytes(write_table(table))
    with pytest.raises(InputError, match=r"^'inf' is not finite in the label of row 2 of a$"):
        list(channel(tmp_path, PROTOBUF).tables(labelled=True))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_enormous_numbers_that_are_finite_are_read(tmp_path: Path, dtype: type[np.floating]) -> None:
    """Although their sum and the sum of their squares are not."""
    features = np.full((5, 2), np.finfo(np.float32).max, dtype)
    (table,) = channel(put(tmp_path, a=write_table(Table(features=features))), PROTOBUF).tables(labelled=False)
    np.testing.assert_array_equal(table.dense(), features)


def test_the_width_of_records_is_checked(tmp_path: Path) -> None:
    """Against feature_dim, or against the first record."""
    wide = write_table(Table(features=np.ones((1, 3), np.float32)))
    folder = put(tmp_path, a=write_table(Table(features=np.ones((1, 2), np.float32))), b=wide)
    with pytest.raises(InputError, match=r"size 3 to array axis with dimension 2 \(row 1 of b\)"):
        list(channel(folder, None).tables(labelled=False))
    with pytest.raises(InputError, match=r"size 2 to array axis with dimension 5 \(row 1 of a\)"):
        list(channel(folder, None).tables(feature_dim=5, labelled=False))


def test_an_empty_channel_is_refused(tmp_path: Path) -> None:
    """The platform should not have started such a job."""
    with pytest.raises(InputError, match="channel 'train' holds no files"):
        list(channel(put(tmp_path), "text/csv").tables(labelled=False))


def test_a_supervised_algorithm_refuses_unlabelled_csv(tmp_path: Path) -> None:
    """label_size=0 contradicts it."""
    with pytest.raises(InputError, match="must have labels"):
        list(channel(put(tmp_path, a=b"1\n"), "text/csv;label_size=0").tables(labelled=True))


@pytest.mark.spec("containers §2.5.4")
def test_pipe_mode_reads_a_fifo_for_each_epoch(tmp_path: Path) -> None:
    """The reader waits until it exists."""
    piped = channel(tmp_path, "text/csv;label_size=0", input_mode="Pipe")
    for epoch, content in enumerate((b"1,2\n3,4\n", b"5,6\n")):
        thread = feed(tmp_path / f"train_{epoch}", content)
        expected = [[float(x) for x in line.split(b",")] for line in content.split()]
        assert rows(list(piped.tables(feature_dim=2, labelled=False, epoch=epoch))) == expected
        thread.join()


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        (b"1,2\n3,4" + b"5,6\n", r"\(row 2 of channel train; is there a file without a final line feed\?\)$"),
        (b"1,2\n3\n", r"\(row 2 of channel train\)$"),
    ],
)
def test_pipe_mode_runs_files_without_a_final_line_feed_together(tmp_path: Path, content: bytes, hint: str) -> None:
    """The message of a row that is too long says so."""
    thread = feed(tmp_path / "train_0", content)
    with pytest.raises(InputError, match=hint):
        list(channel(tmp_path, "text/csv;label_size=0", input_mode="Pipe").tables(labelled=False))
    thread.join()


@pytest.mark.spec("containers §2.5.3")
def test_wrapped_objects_stay_apart(tmp_path: Path) -> None:
    """With RecordWrapperType=RecordIO each object is one record; its last row needs no newline."""
    thread = feed(tmp_path / "train_0", frame(b"1,2\n3,4") + frame(b"5,6"))
    piped = channel(tmp_path, "text/csv;label_size=0", input_mode="Pipe", record_wrapper="RecordIO")
    assert rows(list(piped.tables(labelled=False))) == [[1, 2], [3, 4], [5, 6]]
    thread.join()


def test_a_stop_ends_the_data_early(tmp_path: Path) -> None:
    """Between tables, and before the first one."""
    stopped = channel(put(tmp_path, a=b"1\n", b=b"2\n"), "text/csv;label_size=0")
    tables = stopped.tables(labelled=False)
    assert rows([next(tables)]) == [[1]]
    stopped.stop.request()
    assert list(tables) == []
    assert list(stopped.tables(labelled=False)) == []


def test_a_stop_ends_the_wait_for_data(tmp_path: Path) -> None:
    """Nothing relies on a system call being interrupted: a stop that comes just before it is a stop too."""
    fifo = tmp_path / "train_0"
    os.mkfifo(fifo)
    stopped = channel(tmp_path, "text/csv;label_size=0", input_mode="Pipe")
    tables: list[Table] = []
    reader = threading.Thread(target=lambda: tables.extend(stopped.tables(labelled=False)), daemon=True)
    reader.start()
    with fifo.open("wb"):
        stopped.stop.request()
        reader.join(60)
        assert not reader.is_alive()
    assert tables == []


@pytest.mark.parametrize("exists", [True, False])
def test_a_stop_ends_the_wait_for_a_writer(tmp_path: Path, exists: bool) -> None:
    """Also if the platform has not opened the FIFO yet, or not even made it."""
    if exists:
        os.mkfifo(tmp_path / "train_0")
    stopped = channel(tmp_path, "text/csv;label_size=0", input_mode="Pipe")
    reader = threading.Thread(target=lambda: list(stopped.tables(labelled=False)), daemon=True)
    reader.start()
    stopped.stop.request()
    reader.join(60)
    assert not reader.is_alive()


def test_rows_can_be_grouped_anew() -> None:
    """Mini-batches of the size asked for, whatever the tables' sizes."""
    matrices = [np.full((n, 1), n, np.float64) for n in (5, 1, 0, 7)]
    sizes = [len(batch) for batch in rebatch(iter(matrices), 4)]
    assert sizes == [4, 4, 4, 1]
    np.testing.assert_array_equal(np.concatenate(list(rebatch(iter(matrices), 4))), np.concatenate(matrices))
