"""Classify Iris flowers with the built-in k-NN: train, read the score, deploy, predict, clean up.

An ordinary SageMaker notebook as a script: nothing in it knows Millrace. The environment says where AWS is:

    eval "$(millrace env)"
    python iris_knn.py
"""

# %% The parts of the SageMaker SDK (version 2) that are used
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import sagemaker
from botocore.exceptions import ClientError
from sagemaker import image_uris
from sagemaker.deserializers import JSONDeserializer
from sagemaker.estimator import Estimator
from sagemaker.inputs import TrainingInput
from sagemaker.serializers import CSVSerializer
from sklearn.datasets import load_iris
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier

NEIGHBOURS = 5
failed_checks = []


def check(claim, holds, found=""):
    """Print whether a claim holds, and remember the ones that do not for the exit code."""
    print(f"check: {claim} ... {'ok' if holds else 'FAILED'} {found}".rstrip(), flush=True)
    if not holds:
        failed_checks.append(claim)


# %% Session, role and bucket
session = sagemaker.Session()
role = "MillraceExecutionRole"  # the SDK looks up its ARN; sagemaker.get_execution_role() needs `millrace env --proxy`
bucket = session.default_bucket()
prefix = f"iris-knn/{time.strftime('%Y%m%d-%H%M%S')}"
print(f"region {session.boto_region_name}, outputs below s3://{bucket}/{prefix}", flush=True)

# %% The real Iris data: 150 flowers, four measurements in cm, three species
features, species = load_iris(return_X_y=True)
features = features.astype("float32")  # what k-NN computes in
train_x, test_x, train_y, test_y = train_test_split(features, species, test_size=0.25, random_state=0)


# %% Upload as CSV: no header, label first
def upload(channel, labels, rows):
    """Write one channel as CSV, put it in the bucket, and return its address."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"{channel}.csv")
        np.savetxt(path, np.column_stack([labels, rows]), fmt="%g", delimiter=",")
        return session.upload_data(str(path), bucket=bucket, key_prefix=f"{prefix}/{channel}")


train_uri = upload("train", train_y, train_x)
test_uri = upload("test", test_y, test_x)
print(f"uploaded {train_uri} and {test_uri}", flush=True)

# %% Train: both channels are streamed through pipes
estimator = Estimator(
    image_uri=image_uris.retrieve("knn", session.boto_region_name),
    role=role,
    instance_count=1,
    instance_type="ml.m5.large",
    input_mode="Pipe",
    output_path=f"s3://{bucket}/{prefix}/output",
    sagemaker_session=session,
)
estimator.set_hyperparameters(
    k=NEIGHBOURS,
    sample_size=len(train_x),
    predictor_type="classifier",
    feature_dim=train_x.shape[1],
)
estimator.fit(
    {
        "train": TrainingInput(train_uri, content_type="text/csv"),
        "test": TrainingInput(test_uri, content_type="text/csv"),
    }
)

# %% The same model by scikit-learn, to compare with
reference = KNeighborsClassifier(NEIGHBOURS).fit(train_x, train_y)
reference_labels = reference.predict(test_x)
reference_accuracy = float((reference_labels == test_y).mean())

# %% The score of the test channel stands in the log that fit() just showed, and in the job's description
job_name = estimator.latest_training_job.name
logs = session.boto_session.client("logs")
log_group = "/aws/sagemaker/TrainingJobs"
streams = logs.describe_log_streams(logGroupName=log_group, logStreamNamePrefix=f"{job_name}/")["logStreams"]
lines = [
    event["message"]
    for stream in streams
    for event in logs.get_log_events(logGroupName=log_group, logStreamName=stream["logStreamName"], startFromHead=True)[
        "events"
    ]
]
scores = [line for line in lines if "#test_score (algo-1) : ('accuracy'" in line]
check("the log shows the accuracy of the test channel", len(scores) == 1, *scores)

job = session.describe_training_job(job_name)
metrics = {metric["MetricName"]: metric["Value"] for metric in job.get("FinalMetricDataList", [])}
accuracy = metrics.get("test:accuracy", float("nan"))
check(
    "FinalMetricDataList has scikit-learn's accuracy",
    abs(accuracy - reference_accuracy) < 1e-6,
    f"{accuracy:.6f}, scikit-learn {reference_accuracy:.6f}",
)
artifact = job["ModelArtifacts"]["S3ModelArtifacts"]
check(
    "the model is where SageMaker puts it", artifact == f"s3://{bucket}/{prefix}/output/{job_name}/output/model.tar.gz"
)

# %% Deploy an endpoint that takes CSV and answers JSON
predictor = estimator.deploy(
    initial_instance_count=1,
    instance_type="ml.m5.large",
    serializer=CSVSerializer(),
    deserializer=JSONDeserializer(),
)
client = session.sagemaker_client
endpoint_config = client.describe_endpoint_config(EndpointConfigName=predictor.endpoint_name)
model_name = endpoint_config["ProductionVariants"][0]["ModelName"]
print(f"\nendpoint {predictor.endpoint_name} is in service with model {model_name}", flush=True)

# %% Predict all test flowers in one request, then each in a request of its own
try:
    answer = predictor.predict(test_x)
    labels = np.array([prediction["predicted_label"] for prediction in answer["predictions"]])
    check(
        f"the endpoint gives scikit-learn's label for all {len(test_x)} test rows",
        np.array_equal(labels, reference_labels),
        f"{int((labels == test_y).sum())} of {len(test_y)} are right",
    )
    singles = [predictor.predict(row)["predictions"][0]["predicted_label"] for row in test_x]
    check("rows sent one by one get the same labels", singles == labels.tolist())
finally:
    # %% Clean up: the model first, as its name is found through the endpoint
    predictor.delete_model()
    predictor.delete_endpoint(delete_endpoint_config=True)


def is_gone(describe, **name):
    """Return whether describing a resource is refused as unknown, as it should be after its deletion."""
    try:
        answer = describe(**name)
    except ClientError as exc:
        return exc.response["Error"]["Code"] == "ValidationException" and "Could not find" in str(exc)
    return answer.get("EndpointStatus") == "Deleting"


check("the endpoint is deleted", is_gone(client.describe_endpoint, EndpointName=predictor.endpoint_name))
check(
    "its configuration is deleted",
    is_gone(client.describe_endpoint_config, EndpointConfigName=predictor.endpoint_name),
)
check("its model is deleted", is_gone(client.describe_model, ModelName=model_name))

# %% Done
print(f"{len(failed_checks)} checks failed" if failed_checks else f"all checks passed; see s3://{bucket}/{prefix}")
sys.exit(1 if failed_checks else 0)
