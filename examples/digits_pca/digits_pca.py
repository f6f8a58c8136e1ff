"""Project handwritten digits on their principal components by a batch transform, and compare with scikit-learn.

An ordinary SageMaker notebook as a script: nothing in it knows Millrace. The environment says where AWS is:

    eval "$(millrace env)"
    python digits_pca.py
"""

# %% The parts of the SageMaker SDK (version 2) that are used
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import sagemaker
from sagemaker import image_uris
from sagemaker.estimator import Estimator
from sagemaker.inputs import TrainingInput
from sagemaker.s3 import S3Downloader
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

COMPONENTS = 10
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
prefix = f"digits-pca/{time.strftime('%Y%m%d-%H%M%S')}"
print(f"region {session.boto_region_name}, outputs below s3://{bucket}/{prefix}", flush=True)

# %% The real digits data: 1,797 images of 8 x 8 pixels, each 0 to 16
images = load_digits().data
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder, "digits.csv")
    np.savetxt(path, images, fmt="%d", delimiter=",")
    data_uri = session.upload_data(str(path), bucket=bucket, key_prefix=f"{prefix}/images")
print(f"uploaded {len(images)} rows: {data_uri}", flush=True)

# %% Train the built-in PCA. label_size=0: the first column is a pixel, not a label
estimator = Estimator(
    image_uri=image_uris.retrieve("pca", session.boto_region_name),
    role=role,
    instance_count=1,
    instance_type="ml.m5.large",
    output_path=f"s3://{bucket}/{prefix}/output",
    sagemaker_session=session,
)
estimator.set_hyperparameters(
    feature_dim=images.shape[1],
    num_components=COMPONENTS,
    algorithm_mode="regular",
    subtract_mean=True,
    mini_batch_size=200,
)
estimator.fit({"train": TrainingInput(data_uri, content_type="text/csv;label_size=0")})

# %% Batch transform: JSON Lines give one answer per row, whatever the mini-batches were
transformer = estimator.transformer(
    instance_count=1,
    instance_type="ml.m5.large",
    strategy="MultiRecord",
    accept="application/jsonlines",
    output_path=f"s3://{bucket}/{prefix}/projections",
)
transformer.transform(data_uri, content_type="text/csv", split_type="Line")

output = S3Downloader.read_file(f"{transformer.output_path}/digits.csv.out", sagemaker_session=session)
projections = np.array([json.loads(line)["projection"] for line in output.splitlines() if line])
check("there is a projection for every image", projections.shape == (len(images), COMPONENTS), str(projections.shape))

# %% The same by scikit-learn: it lists the strongest component first, SageMaker last; signs are free
reference = PCA(COMPONENTS, svd_solver="full").fit(images)
expected = reference.transform(images)[:, ::-1]
signs = np.sign((projections * expected).sum(axis=0))
difference = np.abs(projections - expected * signs).max()
check("every projection is scikit-learn's", difference < 1e-3, f"largest difference {difference:.1e}")
spread = np.sqrt((projections**2).sum(axis=0))
check(
    "their singular values are scikit-learn's",
    np.allclose(spread[::-1], reference.singular_values_, rtol=1e-4),
    f"largest {spread[-1]:.3f}",
)

# %% Clean up
transformer.delete_model()
print(f"{len(failed_checks)} checks failed" if failed_checks else f"all checks passed; see s3://{bucket}/{prefix}")
sys.exit(1 if failed_checks else 0)
