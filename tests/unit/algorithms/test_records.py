import numpy as np
import pytest

from millrace_algorithms import protobuf
from millrace_algorithms.errors import BadRowWidth, MalformedRecord
from millrace_algorithms.number_text import Column
from millrace_algorithms.protobuf import Record, Tensor, encode_varint
from millrace_algorithms.record_tables import RecordTableReader, write_records, write_table
from millrace_algorithms.recordio import MAGIC, frame, record_blocks, unframe
from millrace_algorithms.tables import SparseRows, Table

DENSE = "0a23d7ce 18000000 0a160a06 76616c75 6573120c 120a0a08 0000803f 00000040"
LABELLED = (
    "0a23d7ce 2c000000 0a160a06 76616c75 6573120c 120a0a08 0000803f 00000040 12120a06 76616c75 65731208 12060a04"
    "00000000"
    "0a23d7ce 2c000000 0a160a06 76616c75 6573120c 120a0a08 00004040 00008040 12120a06 76616c75 65731208 12060a04"
    "0000803f"
)
SPARSE = (
    "0a23d7ce 2e000000 0a180a06 76616c75 6573120e 120c0a04 0000a040 1201021a 01041212 0a067661 6c756573 12081206"
    "0a040000 803f0000"
)
INT32 = "0a23d7ce 12000000 0a100a06 76616c75 65731206 3a040a02 01020000"
FLOAT64 = "0a23d7ce 20000000 0a1e0a06 76616c75 65731214 1a120a10 000000000000f03f 0000000000000040"


def read(framed: bytes) -> Table:
    (table,) = RecordTableReader().read([framed])
    return table


def read_rows(*chunks: bytes, block_bytes: int = 1 << 20) -> list[list[float]]:
    return [row for table in RecordTableReader().read(chunks, block_bytes) for row in table.dense().tolist()]


@pytest.mark.spec("algorithms §3.2")
def test_the_sdks_bytes_of_dense_rows() -> None:
    """float32 rows, with and without labels, read and written byte for byte."""
    table = read(bytes.fromhex(DENSE))
    assert (table.dense().tolist(), table.labels) == ([[1, 2]], None)
    assert write_table(table) == bytes.fromhex(DENSE)
    labelled = read(bytes.fromhex(LABELLED))
    assert labelled.dense().tolist() == [[1, 2], [3, 4]]
    assert labelled.label_column().tolist() == [0, 1]
    assert labelled.dense().dtype == np.float32
    assert write_table(labelled) == bytes.fromhex(LABELLED)


@pytest.mark.spec("algorithms §3.2")
def test_the_sdks_bytes_of_a_sparse_row() -> None:
    """Sparse rows keep their keys and shape; padding is not part of the payload."""
    table = read(bytes.fromhex(SPARSE))
    assert isinstance(table.features, SparseRows)
    assert table.dense().tolist() == [[0, 0, 5, 0]]
    assert table.label_column().tolist() == [1]
    assert write_table(table) == bytes.fromhex(SPARSE)


@pytest.mark.spec("algorithms §3.2")
@pytest.mark.parametrize("content", [INT32, FLOAT64])
def test_the_sdks_bytes_of_other_tensors(content: str) -> None:
    """numpy's int64 arrives as int32, float64 as itself; both are read everywhere."""
    assert read(bytes.fromhex(content)).dense().tolist() == [[1, 2]]
    assert read(bytes.fromhex(content) * 3).dense().tolist() == [[1, 2]] * 3


@pytest.mark.spec("algorithms §3.2")
def test_unpacked_and_unknown_fields_are_tolerated() -> None:
    """Any protobuf writer's layout is read."""
    tensor = b"\x0d" + np.float32(1).tobytes() + b"\x0d" + np.float32(2).tobytes() + b"\x18\x02"
    value = b"\x12" + encode_varint(len(tensor)) + tensor
    entry = b"\x12" + encode_varint(len(value)) + value + b"\x0a\x06values"
    payload = b"\x1a\x03uid" + b"\x0a" + encode_varint(len(entry)) + entry + b"\x99\x06" + bytes(8) + b"\x68\x05"
    assert read(frame(payload)).dense().tolist() == [[1, 2]]
    sparse_keys_unpacked = b"\x0a\x04" + np.float32(5).tobytes() + b"\x10\x02\x18\x04"
    value = b"\x12" + encode_varint(len(sparse_keys_unpacked)) + sparse_keys_unpacked
    entry = b"\x0a\x06values\x12" + encode_varint(len(value)) + value
    assert read(frame(b"\x0a" + encode_varint(len(entry)) + entry)).dense().tolist() == [[0, 0, 5, 0]]


def test_negative_integers_are_read() -> None:
    """int32 varints of negative numbers take ten bytes."""
    record = Record(features={"values": Tensor(values=np.array([-1, 2**31 - 1, -(2**31)], np.int32))})
    decoded = protobuf.decode(protobuf.encode(record)).features["values"].values
    assert decoded.tolist() == [-1, 2**31 - 1, -(2**31)]


@pytest.mark.parametrize("size", [1, 3, 44, 50, 1000])
def test_chunks_may_be_cut_within_records(size: int) -> None:
    """Whole records come out however the stream arrives."""
    framed = bytes.fromhex(LABELLED) * 5 + bytes.fromhex(DENSE) * 2
    chunks = [framed[i : i + size] for i in range(0, len(framed), size)]
    assert b"".join(record_blocks(chunks, 60)) == framed
    rows = read_rows(bytes.fromhex(LABELLED) * 5, block_bytes=1)
    assert rows == [[1, 2], [3, 4]] * 5


def test_equal_lengths_with_other_layouts_are_not_taken_for_uniform() -> None:
    """A record that only looks as long as the first is decoded on its own."""
    other = frame(bytes.fromhex(DENSE)[8:].replace(b"values", b"valuez"))
    with pytest.raises(MalformedRecord, match=r"expected features\['values'\], got \['valuez'\] in record 2"):
        read(bytes.fromhex(DENSE) + other)


@pytest.mark.spec("algorithms §3.1")
def test_a_split_payload_is_joined_with_the_magic() -> None:
    """Parts 1, 2 and 3 make one record."""
    payloads = [b"abcd", b"ef", b"ghi"]
    parts = [
        MAGIC + (flag << 29 | len(p)).to_bytes(4, "little") + p + bytes(-len(p) % 4)
        for flag, p in zip((1, 2, 3), payloads, strict=True)
    ]
    assert list(unframe(b"".join(parts) + frame(b"x"))) == [MAGIC.join(payloads), b"x"]
    assert list(record_blocks([b"".join(parts), frame(b"x")], 1)) == [b"".join(parts), frame(b"x")]


@pytest.mark.parametrize(
    ("framed", "message"),
    [
        (b"1,2\n3,4\n5,6\n", "expected the RecordIO magic 0a23d7ce, got 312c320a in record 1"),
        (bytes.fromhex(DENSE)[:-4], "truncated RecordIO payload in record 1"),
        (bytes.fromhex(DENSE) + MAGIC, "truncated RecordIO header in record 2"),
        (MAGIC + (3 << 29).to_bytes(4, "little"), "unexpected RecordIO continuation flag 3 in record 1"),
        (MAGIC + (1 << 29).to_bytes(4, "little"), "ends within a split record in record 1"),
        (frame(b"\x0a\x50abc"), "truncated protobuf field in record 1"),
        (frame(b"\x0b"), "unknown protobuf wire type 3 in record 1"),
        (frame(b"\xff" * 12), "truncated or overlong varint in record 1"),
        (frame(b""), r"expected features\['values'\], got \[\] in record 1"),
    ],
)
def test_damaged_bytes_are_named(framed: bytes, message: str) -> None:
    """The message has the record's number."""
    with pytest.raises(MalformedRecord, match=message):
        list(RecordTableReader().read([framed]))


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (Tensor(values=np.ones(1, np.float32), keys=np.array([1])), "sparse features need a shape"),
        (Tensor(values=np.ones(1, np.float32), keys=np.array([4]), shape=(4,)), r"key 4 outside shape \[4\]"),
        (Tensor(values=np.ones(2, np.float32), keys=np.array([1]), shape=(4,)), "1 keys for 2 values"),
    ],
)
def test_bad_sparse_records_are_named(tensor: Tensor, message: str) -> None:
    """Keys need a shape that holds them."""
    with pytest.raises(MalformedRecord, match=message):
        read(frame(protobuf.encode(Record(features={"values": tensor}))))


def test_records_of_different_widths_are_refused() -> None:
    """The row is named."""
    rows = [Record(features={"values": Tensor(values=np.ones(n, np.float32))}) for n in (2, 3)]
    with pytest.raises(BadRowWidth, match="expected 2 features, got 3 in row 2"):
        read(b"".join(frame(protobuf.encode(r)) for r in rows))


@pytest.mark.spec("algorithms §3.2")
def test_answers_carry_their_fields_as_labels() -> None:
    """One framed record a row with empty features."""
    columns = [
        Column("predicted_label", np.array([1, 0], np.float32)),
        Column("distances", np.array([[1, 2, 3], [4, 5, 6]], np.float32)),
    ]
    records = [protobuf.decode(p) for p in unframe(write_records(columns))]
    assert [r.label["predicted_label"].values.tolist() for r in records] == [[1], [0]]
    assert [r.label["distances"].values.tolist() for r in records] == [[1, 2, 3], [4, 5, 6]]
    assert not any(r.features for r in records)
    assert write_records([Column("x", np.zeros((0, 2), np.float32))]) == b""


def test_a_record_of_half_a_gibibyte_is_refused() -> None:
    """29 bits hold the length."""

    class Huge(bytes):
        def __len__(self) -> int:
            return 1 << 29

    with pytest.raises(ValueError, match="at most 536870911 bytes, got 536870912"):
        frame(Huge())
