import pytest

from millrace_algorithms.errors import BadRowWidth, MalformedText
from millrace_algorithms.json_instances import InstanceReader


def read_json(body: bytes) -> list[list[float]]:
    return [row for table in InstanceReader().read_json(body) for row in table.dense().tolist()]


def read_lines(*chunks: bytes) -> list[list[float]]:
    return [row for table in InstanceReader().read_json_lines(chunks) for row in table.dense().tolist()]


@pytest.mark.spec("algorithms §3.6")
@pytest.mark.parametrize(
    "body",
    [
        b'{"instances":[{"features":[1.5,16]},{"features":[2,3]}]}',
        b'{"instances": [{"features": [1.5, 16]}, {"features": [2, 3]}]}\n',
        b'{\n "instances": [\n  {"features": [1.5, 16]},\n  {"features": [2, 3]}\n ]\n}',
        b'{"instances":[{"features":[1.5,16]}, {"features" :[2,3]}]}',
        b'{"instances":[{"data":{"features":{"values":[1.5,16]}}},{"features":[2,3]}]}',
        b'{"instances":[{"features":[1.5,16]},{"features":[2,3]}],"configuration":{"k":2}}',
        b'{"instances":[{"data":{"features":{"keys":[1,0],"shape":[2],"values":[16,1.5]}}},{"features":[2,3]}]}',
    ],
)
def test_all_documented_forms_give_the_same_rows(body: bytes) -> None:
    """Short, long and sparse instances, spelled in any way, alike or mixed."""
    assert read_json(body) == [[1.5, 16], [2, 3]]


@pytest.mark.spec("algorithms §3.6")
def test_sparse_instances_have_zeros_elsewhere() -> None:
    """Keys are positions within the shape."""
    body = b'{"instances":[{"data":{"features":{"keys":[2,5],"shape":[2,3],"values":[1,4]}}}]}'
    assert read_json(body) == [[0, 0, 1, 0, 0, 4]]


@pytest.mark.spec("algorithms §3.6")
@pytest.mark.parametrize(
    "text",
    [
        b'{"features":[1.5,16]}\n{"features":[2,3]}\n',
        b'{"features": [1.5, 16]}\r\n{"features": [2, 3]}\r\n\r\n',
        b'{"data":{"features":{"values":[1.5,16]}}}\n{"features":[2,3]}',
    ],
)
def test_json_lines_have_one_instance_a_line(text: bytes) -> None:
    """The same forms, without the list around them."""
    assert read_lines(text) == [[1.5, 16], [2, 3]]
    assert read_lines(*[text[i : i + 3] for i in range(0, len(text), 3)]) == [[1.5, 16], [2, 3]]


def test_one_instance_is_enough() -> None:
    """A single row has no separator to learn from."""
    assert read_json(b'{"instances":[{"features":[1,2]}]}') == [[1, 2]]
    assert read_lines(b'{"features":[1,2]}') == [[1, 2]]


def test_no_instances_give_no_rows() -> None:
    """An empty list is valid JSON."""
    assert read_json(b'{"instances":[]}') == []


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "not JSON"),
        (b"[]", "expected a JSON object with a list of 'instances'"),
        (b'{"instances":{}}', "expected a JSON object with a list of 'instances'"),
        (b'{"instances":[{"features":[1]},{"features":["a"]}]}', "row 2: 'features' must be a list of numbers"),
        (b'{"instances":[{"features":[1,[2]]}]}', "row 1: 'features' must be a list of numbers"),
        (b'{"instances":[{"features":[true]}]}', "row 1: 'features' must be a list of numbers"),
        (b'{"instances":[1]}', "row 1: expected 'features' or 'data.features', got 1"),
        (b'{"instances":[{"data":{}}]}', "row 1: expected 'features'"),
        (b'{"instances":[{"data":{"features":{}}}]}', "row 1: 'values' must be a list of numbers, got null"),
        (b'{"instances":[{"features":{"values":[1],"keys":[1,2],"shape":[3]}}]}', "row 1: 'keys' must be a list of 1"),
        (b'{"instances":[{"features":{"values":[1],"keys":[1]}}]}', "row 1: sparse features need a 'shape'"),
        (b'{"instances":[{"features":{"values":[1],"keys":[3],"shape":[3]}}]}', r"row 1: key 3 outside shape \[3\]"),
    ],
)
def test_bad_instances_are_named(body: bytes, message: str) -> None:
    """The message has the row and what was expected."""
    with pytest.raises(MalformedText, match=message):
        read_json(body)


def test_widths_must_agree() -> None:
    """Among rows spelled alike and otherwise."""
    with pytest.raises(BadRowWidth, match="expected 2 features, got 1 in row 2"):
        read_json(b'{"instances":[{"features":[1,2]},{"features":[1]}]}')
    with pytest.raises(BadRowWidth, match="expected 2 features, got 3 in row 2"):
        read_lines(b'{"features":[1,2]}\n{"features":[1,2,3]}\n')


def test_a_line_that_is_not_json_is_named() -> None:
    """Rows count over the whole request."""
    with pytest.raises(MalformedText, match="row 2 is not JSON"):
        read_lines(b'{"features":[1,2]}\nx\n')
