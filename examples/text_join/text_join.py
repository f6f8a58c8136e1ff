"""Sort customers' messages by topic: train an own container, transform gzip objects of a manifest, join with the input.

An ordinary SageMaker notebook as a script: nothing in it knows Millrace. The environment says where AWS is:

    eval "$(millrace env)"
    python text_join.py

The own container is built by the command in IMAGE_BUILD, which gets the words {tag} and {dir}; the script
build_and_push.sh of SageMaker's notebooks stands there otherwise.
"""

# %% The parts of the SageMaker SDK (version 2) that are used
import gzip
import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import boto3
import sagemaker
from generate_tickets import TOPICS, tickets
from sagemaker.estimator import Estimator
from sagemaker.inputs import TrainingInput
from sagemaker.s3 import S3Downloader, S3Uploader
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline

IMAGE_BUILD = os.environ.get("IMAGE_BUILD", "millrace image build --tag {tag} {dir}")
LEARNED, SORTED, OBJECTS = 2000, 1200, 4
failed_checks = []


def check(claim, holds, found=""):
    """Print whether a claim holds, and remember the ones that do not for the exit code."""
    print(f"check: {claim} ... {'ok' if holds else 'FAILED'} {found}".rstrip(), flush=True)
    if not holds:
        failed_checks.append(claim)


# %% Session, role and bucket
session = sagemaker.Session()
client = session.sagemaker_client
role = "MillraceExecutionRole"  # the SDK looks up its ARN; sagemaker.get_execution_role() needs `millrace env --proxy`
bucket = session.default_bucket()
stamp = time.strftime("%Y%m%d-%H%M%S")
root = f"s3://{bucket}/text-join/{stamp}"
print(f"region {session.boto_region_name}, outputs below {root}", flush=True)


# %% The messages: some to learn from, others to sort; each object is gzip
def put(uri, messages):
    """Store messages as gzip'd JSON Lines."""
    text = "".join(json.dumps(message, ensure_ascii=False) + "\n" for message in messages)
    S3Uploader.upload_bytes(gzip.compress(text.encode()), uri, sagemaker_session=session)
    return uri


messages = list(tickets(LEARNED + SORTED))
learned, to_sort = messages[:LEARNED], messages[LEARNED:]
train_uri = put(f"{root}/train/tickets.jsonl.gz", learned)
names = [f"day-{number + 1}/tickets.jsonl.gz" for number in range(OBJECTS)]
parts = {}
for number, name in enumerate(names):
    # The topic is what is asked for, so it is not told.
    parts[name] = [{key: it[key] for key in ("id", "customer", "text")} for it in to_sort[number::OBJECTS]]
    put(f"{root}/inbox/{name}", parts[name])
put(f"{root}/inbox/drafts/tickets.jsonl.gz", parts[names[0]])  # not in the manifest: must be left alone
manifest_uri = f"{root}/inbox.manifest"
manifest = [{"prefix": f"{root}/inbox/"}, *names]
S3Uploader.upload_string_as_file_body(json.dumps(manifest), manifest_uri, sagemaker_session=session)
print(f"{LEARNED} messages to learn from, {SORTED} to sort in {OBJECTS} objects", flush=True)

# %% The own container, as the notebooks' cell with build_and_push.sh builds it
account = boto3.client("sts").get_caller_identity()["Account"]
image = f"{account}.dkr.ecr.{session.boto_region_name}.amazonaws.com/ticket-classifier:latest"
program = Path(__file__).parent / "ticket_classifier"
subprocess.run([word.format(tag=image, dir=program) for word in shlex.split(IMAGE_BUILD)], check=True)

# %% Train it
estimator = Estimator(
    image_uri=image,
    role=role,
    instance_count=1,
    instance_type="ml.m5.large",
    output_path=f"{root}/model",
    sagemaker_session=session,
    metric_definitions=[{"Name": "topics", "Regex": "topics=([0-9]+)"}],
)
estimator.set_hyperparameters(smoothing=1.0)
estimator.fit({"train": TrainingInput(train_uri, content_type="application/jsonlines")}, logs="None")
job = session.describe_training_job(estimator.latest_training_job.name)
metrics = {metric["MetricName"]: metric["Value"] for metric in job.get("FinalMetricDataList", [])}
check("the container has learned every topic", metrics.get("topics") == len(TOPICS), metrics)

# %% The same model by scikit-learn, to compare with
reference = make_pipeline(CountVectorizer(token_pattern=r"(?u)\w+"), MultinomialNB(alpha=1.0))
reference.fit([it["text"] for it in learned], [it["topic"] for it in learned])
texts = [it["text"] for it in to_sort]
probabilities = dict(zip((it["id"] for it in to_sort), reference.predict_proba(texts).max(axis=1), strict=True))
expected_topic = dict(zip((it["id"] for it in to_sort), reference.predict(texts), strict=True))


def is_expected(message_id, prediction):
    """Return whether an answer of the container is scikit-learn's."""
    close = abs(prediction["probability"] - probabilities[message_id]) < 1e-6
    return prediction["topic"] == expected_topic[message_id] and close


# %% Transform jobs over the objects of the manifest, one message a request
model = estimator.create_model(name=f"ticket-classifier-{stamp}")


def transform(name, uri, data_type, **joining):
    """Run a transform job and return the lines of each output object, by the object's key below the output path."""
    transformer = model.transformer(
        instance_count=1,
        instance_type="ml.m5.large",
        strategy="SingleRecord",
        assemble_with="Line",
        accept="application/json",
        max_concurrent_transforms=8,
        max_payload=1,
        output_path=f"{root}/{name}",
    )
    transformer.transform(
        uri,
        data_type=data_type,
        content_type="application/json",
        compression_type="Gzip",
        split_type="Line",
        job_name=f"text-join-{stamp}-{name}",
        logs=False,
        **joining,
    )
    found = {}
    for output in S3Downloader.list(transformer.output_path, sagemaker_session=session):
        lines = S3Downloader.read_file(output, sagemaker_session=session).split("\n")
        assert lines.pop() == "", f"{output} does not end with a line feed"
        found[output.removeprefix(f"{transformer.output_path}/")] = lines
    return found


joined = transform("joined", manifest_uri, "ManifestFile", join_source="Input")
check(
    "the objects of the manifest have their outputs, and no other has one",
    sorted(joined) == sorted(f"{name}.out" for name in names),
    " ".join(sorted(joined)),
)
rows = {name: [json.loads(line) for line in joined.get(f"{name}.out", [])] for name in names}
inputs = {name: [{key: row[key] for key in row if key != "SageMakerOutput"} for row in rows[name]] for name in names}
check("each line is its input line, in order, down to accents, quotes and emoji", inputs == parts, f"{SORTED} lines")
answers = [(row["id"], row["SageMakerOutput"]) for name in names for row in rows[name]]
check(
    "joined to each is scikit-learn's topic and probability",
    len(answers) == SORTED and all(is_expected(*answer) for answer in answers),
    f"{len(answers)} answers",
)
truth = {it["id"]: it["topic"] for it in to_sort}
right = sum(truth[message_id] == answer["topic"] for message_id, answer in answers) / SORTED
check("nearly all messages are sorted right", right > 0.95, f"{right:.1%}")

# %% The same with filters: only the text is sent, only id, country and answer are kept
filtered = transform(
    "filtered",
    manifest_uri,
    "ManifestFile",
    join_source="Input",
    input_filter="$.text",
    output_filter="$['id','customer','SageMakerOutput']",
)
kept = {name: [json.loads(line) for line in filtered.get(f"{name}.out", [])] for name in names}
wanted = {name: [{key: row[key] for key in row if key != "text"} for row in rows[name]] for name in names}
check("filters send and keep the parts that they name", kept == wanted, f"{sum(map(len, kept.values()))} lines")

# %% The same for one object by its prefix, without the input
plain = transform("plain", f"{root}/inbox/day-2/", "S3Prefix")
check(
    "without a join the lines are the answers",
    [json.loads(line) for line in plain.get("tickets.jsonl.gz.out", [])]
    == [row["SageMakerOutput"] for row in rows[names[1]]],
    f"{len(plain.get('tickets.jsonl.gz.out', []))} lines",
)

# %% A message that is no JSON fails the job, which says where it stands
broken = gzip.compress(b'{"text": "fine"}\n{"text": broken}\n')
S3Uploader.upload_bytes(broken, f"{root}/broken/tickets.jsonl.gz", sagemaker_session=session)
try:
    transform("broken", f"{root}/broken/", "S3Prefix")
    failure = ""
except sagemaker.exceptions.UnexpectedStatusException:
    failure = client.describe_transform_job(TransformJobName=f"text-join-{stamp}-broken").get("FailureReason", "")
check(
    "a broken message fails its job by name and line", "record 2" in failure and "tickets.jsonl.gz" in failure, failure
)

# %% List the jobs of this run by a part of their name, two to a page
pages, token = [], {}
while True:
    page = client.list_transform_jobs(
        NameContains=f"join-{stamp}", SortBy="CreationTime", SortOrder="Ascending", MaxResults=2, **token
    )
    pages.append(
        [(it["TransformJobName"].rpartition("-")[2], it["TransformJobStatus"]) for it in page["TransformJobSummaries"]]
    )
    if "NextToken" not in page:
        break
    token = {"NextToken": page["NextToken"]}
check(
    "NameContains lists the jobs of this run, page by page",
    pages == [[("joined", "Completed"), ("filtered", "Completed")], [("plain", "Completed"), ("broken", "Failed")]],
    pages,
)

# %% Clean up
model.delete_model()
print(f"{len(failed_checks)} checks failed" if failed_checks else f"all checks passed; see {root}")
sys.exit(1 if failed_checks else 0)
