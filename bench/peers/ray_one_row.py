"""Label rows by their nearest neighbours with Ray Data: python ray_one_row.py LABELLED.csv ROWS.csv OUTPUT_FOLDER K."""

import logging
import sys

import numpy as np
import pandas as pd
import ray
from pyarrow import csv


def main() -> None:
    """Start Ray, label, write; no dashboard, no progress bars."""
    labelled, source, target, k = sys.argv[1:]
    table = np.loadtxt(labelled, delimiter=",", ndmin=2)
    labels, points = table[:, 0].astype(np.int64), table[:, 1:]
    ray.init(include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False

    def label(rows: pd.DataFrame) -> pd.DataFrame:
        distances = ((rows.to_numpy(np.float64)[:, None, :] - points[None, :, :]) ** 2).sum(axis=2)
        nearest = np.argsort(distances, axis=1, kind="stable")[:, : int(k)]
        return pd.DataFrame({"label": [np.bincount(labels[row]).argmax() for row in nearest]})

    rows = ray.data.read_csv(source, read_options=csv.ReadOptions(autogenerate_column_names=True))
    rows.map_batches(label, batch_format="pandas").write_csv(target)
    print("written", flush=True)


if __name__ == "__main__":
    main()
