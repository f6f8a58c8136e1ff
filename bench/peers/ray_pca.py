"""PCA over a CSV file with Ray Data: python ray_pca.py STARTED MODEL INPUT.csv OUTPUT_FOLDER SECOND_FOLDER."""

import logging
import sys

import numpy as np
import pandas as pd
import ray
from pca_rows import COMPONENTS, load, project
from timing import report


def main() -> None:
    """Use both cores, tasks rather than actors, pandas batches of 4,096 rows; no dashboard, no progress bars."""
    started, model, source, *targets = sys.argv[1:]
    directions, offset = load(model)
    names = [f"p{number}" for number in range(COMPONENTS)]
    ray.init(include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True

    def pca(rows: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame(project(rows.to_numpy(np.float64), directions, offset), columns=names)

    def transform(folder: str) -> None:
        rows = ray.data.read_csv(source)
        rows.map_batches(pca, batch_format="pandas", batch_size=4096).write_csv(folder)

    report(float(started), transform, (targets[0], targets[1]))
    ray.shutdown()


if __name__ == "__main__":
    main()
