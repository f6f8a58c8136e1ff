import io
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from millrace_algorithms import mxnet_arrays
from millrace_algorithms.errors import ModelError
from millrace_algorithms.log import Log
from millrace_algorithms.metric_lines import Goal, MetricLines
from millrace_algorithms.number_text import Column, print_csv, print_json_records

MATRIX = Column("projection", np.array([[0.1, 2], [-3, 1e-7]], np.float32))
LABEL = Column("predicted_label", np.array([0, 1], np.float32))


def test_float32_prints_in_its_fewest_digits() -> None:
    """0.1 is not 0.10000000149."""
    assert print_csv([MATRIX]) == b"0.1,2.0\n-3.0,1e-7\n"


@pytest.mark.spec("algorithms §6.1")
def test_lists_become_members_of_records() -> None:
    """As PCA's projections."""
    text = print_json_records([MATRIX], b",")
    assert text == b'{"projection":[0.1,2.0]},{"projection":[-3.0,1e-7]}'


@pytest.mark.spec("algorithms §6.2")
def test_several_members_stand_in_order() -> None:
    """As k-NN's verbose answers."""
    assert print_json_records([LABEL], b"\n") == b'{"predicted_label":0.0}\n{"predicted_label":1.0}'
    text = print_json_records([LABEL, Column("50%", MATRIX.values)], b"\n")
    assert text == b'{"predicted_label":0.0,"50%":[0.1,2.0]}\n{"predicted_label":1.0,"50%":[-3.0,1e-7]}'
    assert print_csv([LABEL, MATRIX]) == b"0.0,0.1,2.0\n1.0,-3.0,1e-7\n"


@pytest.mark.parametrize("width", [1, 2, 3])
def test_every_row_has_its_line(width: int) -> None:
    """However wide it is, and whatever the numbers of it are."""
    values = np.arange(4 * width, dtype=np.float32).reshape(4, width) - 0.5
    values[2, -1] = np.nan
    lines = [",".join("nan" if number != number else repr(number) for number in row) for row in values.tolist()]
    assert print_csv([Column("x", values)]).decode().splitlines() == lines


def test_what_is_not_finite_is_nan_in_csv_and_null_in_json() -> None:
    """JSON has no other word."""
    column = Column("x", np.array([[np.nan, 1]], np.float32))
    assert print_csv([column]) == b"nan,1.0\n"
    assert print_json_records([column], b",") == b'{"x":[null,1.0]}'


def test_no_rows_print_nothing() -> None:
    """Neither separators nor braces."""
    column = Column("x", np.zeros((0, 2), np.float32))
    assert print_csv([column]) == print_json_records([column], b",") == b""


@pytest.mark.spec("algorithms §5.1")
def test_metric_lines_have_the_documented_grammar() -> None:
    """Final, per epoch and per mini-batch."""
    lines = MetricLines()
    assert lines.quality("train", "msd", 0.0646, Goal.LOSS) == "#quality_metric: host=algo-1, train msd <loss>=0.0646"
    assert (
        lines.quality("validation", "mse_objective", 0.41, Goal.LOSS, epoch=3)
        == "#quality_metric: host=algo-1, epoch=3, validation mse_objective <loss>=0.41"
    )
    assert (
        lines.quality("train", "rmse", 1.2, Goal.LOSS, epoch=0, batch=12)
        == "#quality_metric: host=algo-1, epoch=0, batch=12 train rmse <loss>=1.2"
    )
    assert lines.score("test", "accuracy", 0.97) == "#test_score (algo-1) : ('accuracy', 0.97)"
    assert lines.progress(40) == "#progress_metric: host=algo-1, completed 40.0 % of epochs"
    assert lines.throughput(24523.1) == "#throughput_metric: host=algo-1, train throughput=24523.1 records/second"


@pytest.mark.spec("algorithms §2.2")
def test_log_lines_are_stamped() -> None:
    """Date, level and thread in brackets."""
    stream = io.StringIO()
    log = Log(stream, lambda: datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC))
    log.info("a")
    log.warning("b")
    log.error("c")
    log.plain("#d")
    first, second, third, fourth = stream.getvalue().splitlines()
    assert first.startswith("[03/04/2026 05:06:07 INFO ")
    assert first.endswith("] a")
    assert " WARNING " in second
    assert " ERROR " in third
    assert fourth == "#d"


VECTOR = (
    "12010000 00000000 00000000 00000000 01000000 00000000 c9fa93f9 00000000 02000000 01000000 00000000 02000000"
    "00000000 01000000 00000000 00000000 0000803f 00000040 00000000 00000000"
)


@pytest.mark.spec("algorithms §3.10")
def test_the_array_file_has_mxnets_bytes() -> None:
    """A nameless list of one float32 array."""
    content = mxnet_arrays.encode([np.array([[1, 2]], np.float32)])
    assert content == bytes.fromhex(VECTOR)
    assert mxnet_arrays.decode(content)["0"].tolist() == [[1, 2]]


@pytest.mark.spec("algorithms §3.10")
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.uint8, np.int32, np.int8, np.int64])
def test_dictionaries_of_every_type_come_back(dtype: type) -> None:
    """Names, shapes and types are kept."""
    arrays: dict[str, npt.NDArray[Any]] = {
        "s": np.arange(3).astype(dtype),
        "größe": np.arange(6).reshape(1, 2, 3).astype(dtype),
    }
    decoded = mxnet_arrays.decode(mxnet_arrays.encode(arrays))
    assert list(decoded) == ["s", "größe"]
    for name, array in arrays.items():
        assert decoded[name].dtype == array.dtype
        np.testing.assert_array_equal(decoded[name], array)


@pytest.mark.spec("algorithms §3.10")
def test_older_forms_are_read() -> None:
    """Version 1 has no storage type; the oldest form begins with the number of dimensions."""
    new = bytes.fromhex(VECTOR)
    version_1 = new[:24] + bytes.fromhex("c8fa93f9") + new[32:]
    oldest = new[:24] + bytes.fromhex("02000000 01000000 02000000") + new[52:]
    for content in (version_1, oldest):
        assert mxnet_arrays.decode(content)["0"].tolist() == [[1, 2]]


@pytest.mark.parametrize("cut", [0, 10, 30, 60, 75, 79])
def test_a_truncated_array_file_is_refused(cut: int) -> None:
    """Whatever is missing."""
    with pytest.raises(ModelError, match="damaged MXNet array file"):
        mxnet_arrays.decode(bytes.fromhex(VECTOR)[:cut])


def test_another_files_magic_is_refused() -> None:
    """A pickle or an archive is no array file."""
    with pytest.raises(ModelError, match="expected magic 0x112"):
        mxnet_arrays.decode(b"\x80\x04" + bytes(40))
