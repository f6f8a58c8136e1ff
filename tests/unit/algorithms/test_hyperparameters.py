import pytest

from millrace_algorithms.errors import InputError
from millrace_algorithms.hyperparameters import Hyperparameter, Kind, validate, validate_channels
from millrace_algorithms.knn import ALGORITHM as KNN
from millrace_algorithms.pca import ALGORITHM as PCA

GOOD = {"feature_dim": "4", "num_components": "2", "mini_batch_size": "10"}
DECLARED = {
    "samples": Hyperparameter(kind=Kind.INTEGER, minimum=1, maximum=2048, default=256),
    "rate": Hyperparameter(kind=Kind.NUMBER, minimum=0, maximum=1, auto=True, default="auto"),
    "metrics": Hyperparameter(kind=Kind.LIST, default=None),
    "note": Hyperparameter(kind=Kind.TEXT, default=""),
}


def test_defaults_fill_what_was_not_given() -> None:
    """Every declared name has a typed value."""
    assert validate(PCA.hyperparameters, GOOD) == {
        "feature_dim": 4,
        "num_components": 2,
        "mini_batch_size": 10,
        "algorithm_mode": "regular",
        "subtract_mean": True,
        "extra_components": -1,
        "epochs": 1,
        "force_dense": True,
    }


@pytest.mark.spec("algorithms §2.1")
@pytest.mark.parametrize(("text", "value"), [("True", True), ("false", False), ("FALSE", False), (True, True)])
def test_booleans_come_in_any_case(text: object, value: bool) -> None:
    """The SDK sends True, people write true."""
    assert validate(PCA.hyperparameters, {**GOOD, "subtract_mean": text})["subtract_mean"] is value


@pytest.mark.spec("algorithms §2.1")
def test_names_that_start_with_an_underscore_are_ignored() -> None:
    """The tuning service adds private names to every algorithm."""
    assert "_kfold" not in validate(PCA.hyperparameters, {**GOOD, "_tuning_objective_metric": "x", "_kfold": "3"})


def test_a_declared_private_name_is_read() -> None:
    """k-NN's private nprobe has an effect."""
    given = {"k": "1", "predictor_type": "regressor", "sample_size": "9", "_faiss_index_nprobe": "7"}
    assert validate(KNN.hyperparameters, given)["_faiss_index_nprobe"] == 7


@pytest.mark.spec("algorithms §4.1")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mini_batch_siz": "5"}, "Additional properties are not allowed ('mini_batch_siz' was unexpected)"),
        ({"feature_dim": None}, "'feature_dim' is a required property"),
    ],
)
def test_faults_of_the_set_are_one_line(change: dict[str, str | None], message: str) -> None:
    """Unknown and missing names are told in the service's words."""
    given = {name: value for name, value in {**GOOD, **change}.items() if value is not None}
    with pytest.raises(InputError) as raised:
        validate(PCA.hyperparameters, given)
    assert str(raised.value) == message


@pytest.mark.spec("algorithms §4.1")
@pytest.mark.parametrize("text", ["abc", "0", "-1", "1.5", "01", ""])
def test_a_bad_integer_names_the_value_and_the_hyperparameter(text: str) -> None:
    """Clients match the text of the JSON schema library."""
    with pytest.raises(InputError) as raised:
        validate(PCA.hyperparameters, {**GOOD, "feature_dim": text})
    assert str(raised.value).startswith(
        f"{text!r} is not valid under any of the given schemas\n\n"
        "Failed validating 'oneOf' in schema['properties']['feature_dim']:"
    )


@pytest.mark.spec("algorithms §4.1")
def test_a_value_out_of_range_names_the_limit() -> None:
    """As the service says: 5000 is greater than the maximum of 2048."""
    with pytest.raises(InputError, match=r"^5000 is greater than the maximum of 2048") as raised:
        validate(DECLARED, {"samples": "5000"})
    assert "'samples'" in str(raised.value)


@pytest.mark.spec("algorithms §4.1")
def test_a_word_that_is_not_a_choice_names_the_choices() -> None:
    """As the service says: 'foo' is not one of [...]."""
    with pytest.raises(InputError, match=r"^'foo' is not one of \['regular', 'randomized'\]"):
        validate(PCA.hyperparameters, {**GOOD, "algorithm_mode": "foo"})


def test_auto_lists_and_numbers_are_typed() -> None:
    """auto stays a word, lists are JSON text, numbers are floats."""
    values = validate(DECLARED, {"rate": "auto", "metrics": '["a", 1]', "note": "x"})
    assert values == {"samples": 256, "rate": "auto", "metrics": ["a", 1], "note": "x"}
    assert validate(DECLARED, {"rate": "1e-1"})["rate"] == 0.1
    assert validate(DECLARED, {"metrics": ["a"]})["metrics"] == ["a"]


def test_a_list_that_is_not_json_says_so() -> None:
    """Brackets alone do not make a list."""
    with pytest.raises(InputError, match="hyperparameter metrics must be JSON text of a list"):
        validate(DECLARED, {"metrics": "[a]"})


@pytest.mark.parametrize("m", ["5", "0", "97"])
def test_only_the_documented_numbers_of_a_set_are_taken(m: str) -> None:
    """faiss_index_pq_m is one of sixteen numbers."""
    with pytest.raises(InputError, match=f"^'{m}' is not one of"):
        validate(
            KNN.hyperparameters, {"k": "1", "predictor_type": "regressor", "sample_size": "9", "faiss_index_pq_m": m}
        )


@pytest.mark.spec("algorithms §4.1")
def test_channels_are_checked_like_hyperparameters() -> None:
    """A missing or unknown channel is told in the same words."""
    with pytest.raises(InputError, match=r"^'train' is a required property$"):
        validate_channels({"test": 1}, required=("train",), optional=("test",))
    with pytest.raises(InputError, match=r"^Additional properties are not allowed \('tset' was unexpected\)$"):
        validate_channels({"train": 1, "tset": 1}, required=("train",), optional=("test",))
