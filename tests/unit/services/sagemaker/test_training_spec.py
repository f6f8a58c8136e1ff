"""What CreateTrainingJob says, in our own values."""

import pytest

from millrace.errors import ValidationError
from millrace.services.sagemaker.training_spec import training_spec


@pytest.mark.parametrize("name", [".", ".."])
def test_a_channel_is_named_as_a_folder_can_be(name: str) -> None:
    """The model lets dots through; the error names the member and the value."""
    source = {"S3DataType": "S3Prefix", "S3Uri": "s3://shop/in/"}
    request = {
        "AlgorithmSpecification": {"TrainingImage": "i", "TrainingInputMode": "File"},
        "OutputDataConfig": {"S3OutputPath": "s3://shop/out"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
    }
    channels = [{"ChannelName": "a..b", "DataSource": {"S3DataSource": source}}]
    assert [it.name for it in training_spec({**request, "InputDataConfig": channels}, []).channels] == ["a..b"]
    channels.append({"ChannelName": name, "DataSource": {"S3DataSource": source}})
    with pytest.raises(ValidationError, match=rf"nputDataConfig\.2\.member\.channelName: .* got '{name}'"):
        training_spec({**request, "InputDataConfig": channels}, [])
