"""PCA over a CSV file with Spark: python spark_pca.py STARTED MODEL INPUT.csv OUTPUT_FOLDER SECOND_FOLDER."""

import sys
from collections.abc import Iterator

import numpy as np
import pandas as pd
from pca_rows import COMPONENTS, load, project
from pyspark.sql import SparkSession
from pyspark.sql.types import DoubleType, StructField, StructType
from timing import report


def main() -> None:
    """Use both cores, a stated schema, Arrow batches of 10,000 rows; no web page."""
    started, model, source, *targets = sys.argv[1:]
    directions, offset = load(model)
    names = [f"p{number}" for number in range(COMPONENTS)]
    spark = (
        SparkSession.builder.master("local[2]")
        .config("spark.ui.enabled", "false")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.sql.execution.arrow.maxRecordsPerBatch", "10000")
        .getOrCreate()
    )
    spark.sparkContext.setLogLevel("ERROR")
    wide = StructType([StructField(f"c{number}", DoubleType()) for number in range(directions.shape[0])])
    narrow = StructType([StructField(name, DoubleType()) for name in names])

    def pca(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for rows in batches:
            yield pd.DataFrame(project(rows.to_numpy(np.float64), directions, offset), columns=names)

    def transform(folder: str) -> None:
        rows = spark.read.csv(source, schema=wide, header=True)
        rows.mapInPandas(pca, narrow).write.mode("overwrite").csv(folder, header=True)

    report(float(started), transform, (targets[0], targets[1]))
    spark.stop()


if __name__ == "__main__":
    main()
