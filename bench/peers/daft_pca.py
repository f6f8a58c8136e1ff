"""PCA over a CSV file with Daft: python daft_pca.py STARTED MODEL INPUT.csv OUTPUT_FOLDER SECOND_FOLDER."""

import sys

import daft
import numpy as np
from daft import DataType, Series, col
from pca_rows import COMPONENTS, load, project
from timing import report


def main() -> None:
    """Use the engine of one machine, on both cores, and a function of whole batches."""
    started, model, source, *targets = sys.argv[1:]
    directions, offset = load(model)
    width = directions.shape[0]
    daft.set_runner_native()

    @daft.func.batch(return_dtype=DataType.fixed_size_list(DataType.float64(), COMPONENTS))
    def pca(*columns: Series) -> np.ndarray:
        rows = np.stack([np.asarray(column.to_arrow()) for column in columns], axis=1)
        return project(rows, directions, offset)

    def transform(folder: str) -> None:
        rows = daft.read_csv(source)
        projected = rows.select(pca(*(col(f"c{number}") for number in range(width))).alias("p"))
        parts = [col("p").get(number).alias(f"p{number}") for number in range(COMPONENTS)]
        projected.select(*parts).write_csv(folder)

    report(float(started), transform, (targets[0], targets[1]))


if __name__ == "__main__":
    main()
