from pathlib import Path

import pytest
from tests.unit.algorithms.job_folder import JobFolder

from millrace_algorithms.container import ContainerFiles
from millrace_algorithms.errors import InputError


@pytest.mark.spec("containers §9.6")
def test_the_base_folder_stands_for_opt_ml(tmp_path: Path) -> None:
    """SAGEMAKER_BASE_DIR is the folder itself, or one that holds opt/ml."""
    assert ContainerFiles.locate({}).root == Path("/opt/ml")
    assert ContainerFiles.locate({"SAGEMAKER_BASE_DIR": str(tmp_path)}).root == tmp_path
    (tmp_path / "opt" / "ml").mkdir(parents=True)
    assert ContainerFiles.locate({"SAGEMAKER_BASE_DIR": str(tmp_path)}).root == tmp_path / "opt" / "ml"


@pytest.mark.spec("containers §2.3")
def test_the_three_configuration_files_are_read(tmp_path: Path) -> None:
    """Hyperparameters, channels and hosts."""
    JobFolder(tmp_path).configure({"k": "5"}, {"train": "text/csv", "test": None}, input_mode="Pipe")
    files = ContainerFiles(tmp_path)
    assert files.read_hyperparameters() == {"k": "5"}
    channels = files.read_channels()
    assert (channels["train"].content_type, channels["test"].content_type) == ("text/csv", None)
    assert channels["train"].input_mode == "Pipe"
    assert files.read_resources().hosts == ("algo-1",)


def test_absent_files_mean_nothing_was_configured(tmp_path: Path) -> None:
    """A job without channels or hyperparameters is described by empty maps."""
    files = ContainerFiles(tmp_path)
    assert (files.read_hyperparameters(), files.read_channels()) == ({}, {})
    assert files.read_resources().current_host == "algo-1"


@pytest.mark.parametrize(("text", "message"), [("{", "is not JSON"), ("[]", "must hold a JSON object, got list")])
def test_a_damaged_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    """The message says which file and what is wrong."""
    JobFolder(tmp_path).configure({}, {})
    (tmp_path / "input" / "config" / "hyperparameters.json").write_text(text)
    with pytest.raises(InputError, match=rf"hyperparameters\.json {message}"):
        ContainerFiles(tmp_path).read_hyperparameters()
