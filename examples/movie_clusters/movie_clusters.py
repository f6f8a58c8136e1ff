"""Find groups of movies that the same people like: PCA of a product by user matrix of star ratings.

An ordinary SageMaker notebook as a script: nothing in it knows Millrace. The environment says where AWS is:

    eval "$(millrace env)"
    python movie_clusters.py

Reviews -> sparse matrix -> CSV in S3 -> built-in PCA -> the same rows through a batch transform and through an
endpoint -> a batch transform of new products -> an own container that clusters by density, trained on the transform's
output and used in a second transform -> clusters, which are the genres that the data set was made with, and a plot.

The own container is built by the command in IMAGE_BUILD, which gets the words {tag} and {dir}; the script
build_and_push.sh of SageMaker's notebooks stands there otherwise.
"""

# %% The parts of the SageMaker SDK (version 2) that are used
import csv
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import boto3
import matplotlib
import numpy as np
import pandas as pd
import sagemaker
from generate_reviews import write_reviews
from sagemaker.amazon.amazon_estimator import get_image_uri
from sagemaker.deserializers import JSONDeserializer
from sagemaker.estimator import Estimator
from sagemaker.inputs import TrainingInput
from sagemaker.s3 import S3Downloader, S3Uploader
from sagemaker.serializers import CSVSerializer
from sagemaker.transformer import Transformer
from scipy.sparse import csr_matrix
from sklearn.metrics import adjusted_rand_score

matplotlib.use("Agg")  # draws into files, needs no screen
import matplotlib.pyplot as plt

LEAST_REVIEWS_OF_A_USER = 20
LEAST_REVIEWS_OF_A_PRODUCT = 10
COMPONENTS = 100
MINI_BATCH_SIZE = 500
HELD_OUT_SHARE = 0.1
IMAGE_BUILD = os.environ.get("IMAGE_BUILD", "millrace image build --tag {tag} {dir}")
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
prefix = f"movie-clusters/{time.strftime('%Y%m%d-%H%M%S')}"
folder = tempfile.TemporaryDirectory(prefix="movie-clusters-")  # removed when the script ends
work = Path(folder.name)
print(f"region {session.boto_region_name}, outputs below s3://{bucket}/{prefix}", flush=True)

# %% The reviews: a gzip TSV file, as the Amazon review sets were
reviews_path = work / "reviews.tsv.gz"
written = write_reviews(reviews_path)
print(f"wrote {written.lines} lines, {written.broken_lines} of them broken: {reviews_path.name}", flush=True)


# %% Load them. Real exports have bad lines, and a few of them must not cost the rest
def load_reviews(path):
    """Return user, product, title and stars of every line that is a whole review."""
    # QUOTE_NONE: a text may open a quote and never close it, and would swallow the lines that follow.
    # No `usecols` here: with it pandas takes lines with too many fields as good, and their columns are shifted.
    table = pd.read_csv(path, sep="\t", quoting=csv.QUOTE_NONE, on_bad_lines="skip", dtype=str)
    # A line that was cut short, or whose columns have moved to the left, does not end in a date.
    is_whole = table["review_date"].str.fullmatch(r"\d{4}-\d{2}-\d{2}").fillna(False).astype(bool)
    table = table.loc[is_whole, ["customer_id", "product_id", "product_title", "star_rating"]]
    return table.astype({"star_rating": "int8"})


reviews = load_reviews(reviews_path)
check(
    "every line is read but the broken ones",
    len(reviews) == written.lines - written.broken_lines,
    f"{len(reviews)} reviews",
)
# Who reviews a product twice means the last one.
reviews = reviews.drop_duplicates(["customer_id", "product_id"], keep="last")

# %% Keep the users and products that have enough reviews to say something
# Leaving out a product takes reviews from users, and the other way round: repeat until both have enough.
while True:
    per_user = reviews.groupby("customer_id")["star_rating"].transform("size")
    per_product = reviews.groupby("product_id")["star_rating"].transform("size")
    enough = (per_user >= LEAST_REVIEWS_OF_A_USER) & (per_product >= LEAST_REVIEWS_OF_A_PRODUCT)
    if enough.all():
        break
    reviews = reviews[enough]

# %% A sparse matrix: a row per product, a column per user, stars where there is a review
products = reviews["product_id"].astype("category")
users = reviews["customer_id"].astype("category")
ratings = csr_matrix(
    (reviews["star_rating"].astype("int8"), (products.cat.codes, users.cat.codes)),
    shape=(len(products.cat.categories), len(users.cat.categories)),
)
titles = reviews.groupby("product_id", sort=True)["product_title"].first()
n_products, n_users = ratings.shape
print(
    f"{n_products} products by {n_users} users, {ratings.nnz / n_products / n_users:.2%} of the cells rated", flush=True
)

# %% A tenth of the products is held out: they are the new data of the last step
held_out = np.zeros(n_products, dtype=bool)
held_out[np.random.default_rng(0).choice(n_products, int(HELD_OUT_SHARE * n_products), replace=False)] = True
known_rows = ratings[~held_out].toarray()
new_rows = ratings[held_out].toarray()


# %% Dense CSV without header, up to S3
def upload(name, rows):
    """Write rows as CSV, put the file in the bucket, and return its address."""
    path = work / f"{name}.csv"
    pd.DataFrame(rows).to_csv(path, header=False, index=False)
    uri = session.upload_data(str(path), bucket=bucket, key_prefix=f"{prefix}/{name}")
    print(f"uploaded {len(rows)} rows, {path.stat().st_size / 1e6:.1f} MB: {uri}", flush=True)
    return uri


known_uri = upload("known-products", known_rows)
new_uri = upload("new-products", new_rows)

# %% Train the built-in PCA
estimator = Estimator(
    image_uri=get_image_uri(session.boto_region_name, "pca", "latest"),
    role=role,
    instance_count=1,
    instance_type="ml.c4.xlarge",
    output_path=f"s3://{bucket}/{prefix}/output",
    sagemaker_session=session,
)
estimator.set_hyperparameters(
    feature_dim=n_users,
    num_components=COMPONENTS,
    subtract_mean=True,
    algorithm_mode="randomized",
    mini_batch_size=MINI_BATCH_SIZE,
)
estimator.fit({"train": TrainingInput(known_uri, content_type="text/csv;label_size=0")})

# %% Batch transform of the same rows: lines are packed into mini-batches, each answer becomes one line
pca_model = estimator.create_model()
transformer = pca_model.transformer(
    instance_count=1,
    instance_type="ml.m4.xlarge",
    strategy="MultiRecord",
    assemble_with="Line",
    output_path=f"s3://{bucket}/{prefix}/known-projections",
)
transformer.transform(known_uri, content_type="text/csv", split_type="Line")


def read_projections(output_path, name):
    """Return the matrix in a transform's output: a JSON document per mini-batch, one on each line."""
    text = S3Downloader.read_file(f"{output_path}/{name}.csv.out", sagemaker_session=session)
    answers = [json.loads(line) for line in text.splitlines() if line]
    print(f"{output_path}/{name}.csv.out: {len(text) / 1e6:.1f} MB, {len(answers)} mini-batches", flush=True)
    return np.array([each["projection"] for answer in answers for each in answer["projections"]])


projections = read_projections(transformer.output_path, "known-products")
check(
    "the transform gives a projection for every row",
    projections.shape == (len(known_rows), COMPONENTS),
    f"shape {projections.shape}",
)

# %% An endpoint from the same model, asked in mini-batches
predictor = pca_model.deploy(
    initial_instance_count=1,
    instance_type="ml.m4.xlarge",
    serializer=CSVSerializer(),
    deserializer=JSONDeserializer(),
)
print(f"\nendpoint {pca_model.endpoint_name} is in service", flush=True)
try:
    answered = []
    for start in range(0, len(known_rows), MINI_BATCH_SIZE):
        answer = predictor.predict(known_rows[start : start + MINI_BATCH_SIZE])
        answered += [each["projection"] for each in answer["projections"]]
finally:
    predictor.delete_endpoint(delete_endpoint_config=True)
check(
    "endpoint and batch transform give the same projections",
    np.allclose(answered, projections, rtol=1e-5, atol=1e-5),
    f"{len(answered)} rows",
)

# %% NEW data: a model made from the training job by its name, and a transformer by hand
model_name = session.create_model_from_job(estimator.latest_training_job.name, name=f"{pca_model.name}-new", role=role)
new_transformer = Transformer(
    model_name=model_name,
    instance_count=1,
    instance_type="ml.m4.xlarge",
    strategy="MultiRecord",
    assemble_with="Line",
    output_path=f"s3://{bucket}/{prefix}/new-projections",
    sagemaker_session=session,
)
new_transformer.transform(new_uri, content_type="text/csv", split_type="Line")
new_projections = read_projections(new_transformer.output_path, "new-products")

# %% The same by numpy: eigenvectors of the scatter matrix, strongest component last as in SageMaker's model
mean = known_rows.mean(axis=0)
centred = known_rows - mean
_, eigenvectors = np.linalg.eigh(centred.T @ centred)
directions = eigenvectors[:, -COMPONENTS:]


def same_up_to_sign(found, expected):
    """Return whether the columns agree; a component's sign is free, but must be one for the whole column."""
    signs = np.sign((found * expected).sum(axis=0))
    return found.shape == expected.shape and np.allclose(found, expected * signs, rtol=1e-4, atol=1e-3)


check("the projections are those of numpy's exact PCA", same_up_to_sign(projections, centred @ directions))
check(
    "so are those of the new products, as learned from the others",
    same_up_to_sign(new_projections, (new_rows - mean) @ directions),
    f"{len(new_rows)} rows",
)
energy = (projections**2).sum(axis=0)
check(
    "the strongest component is the last one",
    bool(np.all(np.diff(energy) > -1e-6 * energy.max())),
    f"it holds {energy[-1] / (centred**2).sum():.1%}, all {COMPONENTS} hold {energy.sum() / (centred**2).sum():.1%}",
)

# %% An own container: its repository, then its image, as the notebook's cell with build_and_push.sh does
ecr = boto3.client("ecr")
repository = "movie-density-clustering"
try:
    found = ecr.describe_repositories(repositoryNames=[repository])["repositories"][0]
except ecr.exceptions.RepositoryNotFoundException:
    found = ecr.create_repository(repositoryName=repository)["repository"]
image = f"{found['repositoryUri']}:latest"
program = Path(__file__).parent / "density_clustering"
subprocess.run([word.format(tag=image, dir=program) for word in shlex.split(IMAGE_BUILD)], check=True)

# %% Train it on the output prefix of the first transform
# A popular movie lies further out than an unpopular one of its kind, so the container compares directions, and only in
# the few strongest components: as many as there are genres.
genres = titles.str.extract(r"\(([^()]+)\)$", expand=False).to_numpy()
clustering = Estimator(
    image_uri=image,
    role=role,
    instance_count=1,
    instance_type="ml.c4.xlarge",
    output_path=f"s3://{bucket}/{prefix}/output",
    sagemaker_session=session,
    metric_definitions=[
        {"Name": "clusters", "Regex": "clusters=([0-9]+)"},
        {"Name": "noise", "Regex": "noise=([0-9.]+)"},
    ],
)
clustering.set_hyperparameters(eps=0.3, min_samples=10, components=len(set(genres)))
clustering.fit({"train": transformer.output_path})
described = session.describe_training_job(clustering.latest_training_job.name)
metrics = {each["MetricName"]: each["Value"] for each in described["FinalMetricDataList"]}
check(
    "density clustering finds as many clusters as there are genres",
    metrics.get("clusters") == len(set(genres)),
    metrics,
)

# %% A second transform, on the outputs of the first ones: a line, which is a mini-batch of projections, is a record;
# x.csv.out gives x.csv.out.out
cluster_model = clustering.create_model(name=f"{pca_model.name}-clusters")
second = cluster_model.transformer(
    instance_count=1,
    instance_type="ml.m4.xlarge",
    strategy="SingleRecord",
    assemble_with="Line",
    output_path=f"s3://{bucket}/{prefix}/clusters",
)


def cluster(projections_path, name):
    """Return the cluster of every product whose projections stand below a path."""
    second.transform(projections_path, content_type="application/jsonlines", split_type="Line")
    text = S3Downloader.read_file(f"{second.output_path}/{name}.csv.out.out", sagemaker_session=session)
    return np.concatenate([json.loads(line)["clusters"] for line in text.splitlines()])


clusters = np.full(n_products, -1)
clusters[~held_out] = cluster(transformer.output_path, "known-products")
clusters[held_out] = cluster(new_transformer.output_path, "new-products")
for kind, rows in (("known", ~held_out), ("new", held_out)):
    agreement = adjusted_rand_score(genres[rows], clusters[rows])
    check(f"clusters of {kind} products are the genres", agreement > 0.95, f"adjusted Rand index {agreement:.3f}")

# %% The table of clusters
members = pd.DataFrame({"cluster": clusters, "title": titles.to_numpy(), "genre": genres})
table = (
    members[members["cluster"] >= 0]
    .groupby("cluster")
    .agg(products=("title", "size"), genre=("genre", lambda each: each.mode()[0]), example=("title", "first"))
)
print(table.to_string(), flush=True)
print(f"{(clusters < 0).sum()} of {n_products} products belong to no cluster", flush=True)
check("every product is in the table or counted as noise", table["products"].sum() + (clusters < 0).sum() == n_products)

# %% A plot of them, in the two strongest components; kept beside the outputs
coordinates = np.empty((n_products, COMPONENTS))
coordinates[~held_out], coordinates[held_out] = projections, new_projections
figure, axes = plt.subplots(figsize=(8, 6))
for number, row in table.iterrows():
    chosen = clusters == number
    axes.scatter(coordinates[chosen, -1], coordinates[chosen, -2], s=6, label=f"{number}: {row['genre']}")
axes.set(xlabel="strongest component", ylabel="second component", title=f"{n_products} movies in {len(table)} clusters")
axes.legend(markerscale=3, fontsize="small")
plot_path = work / "clusters.png"
figure.savefig(plot_path, dpi=120, bbox_inches="tight")
plot_uri = S3Uploader.upload(str(plot_path), f"s3://{bucket}/{prefix}/plot", sagemaker_session=session)
check("the plot is saved", plot_path.stat().st_size > 20_000, plot_uri)

# %% Clean up
pca_model.delete_model()
new_transformer.delete_model()
cluster_model.delete_model()
print(f"{len(failed_checks)} checks failed" if failed_checks else f"all checks passed; see s3://{bucket}/{prefix}")
sys.exit(1 if failed_checks else 0)
