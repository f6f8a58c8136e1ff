"""Read a training channel as a stream of tables, in File, FastFile and Pipe mode."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from millrace_algorithms import media_types
from millrace_algorithms.container import ChannelConfig
from millrace_algorithms.csv_numbers import CsvReader
from millrace_algorithms.errors import BadRowWidth, InputError, MalformedRecord, MalformedText
from millrace_algorithms.finite import require_finite
from millrace_algorithms.log import Log
from millrace_algorithms.record_tables import RecordTableReader
from millrace_algorithms.recordio import record_blocks, unframe
from millrace_algorithms.stopping import StopRequested, StopSignal
from millrace_algorithms.tables import Table

__all__ = ["Channel"]

CHUNK_BYTES = 4 * 1024 * 1024
"""Read from a file or FIFO at once; a channel is never held whole."""
CSV_BLOCK_BYTES = 1024 * 1024
"""Text per table: larger than in serving, because training gains more from larger matrices than from the cache."""
FIFO_WAIT_SECONDS = 600.0
"""How long a Pipe channel's FIFO may take to appear: the platform lists the objects first."""
_FIFO_POLL_SECONDS = 0.02


@dataclass(frozen=True, kw_only=True, slots=True)
class _Source:
    """A stretch of bytes that begins and ends between rows."""

    name: str
    chunks: Iterator[bytes]


@dataclass(frozen=True, kw_only=True, slots=True)
class Channel:
    """One channel of a training job."""

    config: ChannelConfig
    data_dir: Path
    default_content_type: str
    content_types: tuple[str, ...]
    log: Log
    stop: StopSignal

    @property
    def media_type(self) -> media_types.MediaType:
        """Return the channel's content type; raises InputError if the algorithm does not read it."""
        media_type = media_types.parse(self.config.content_type or self.default_content_type)
        if media_type.name not in self.content_types:
            raise InputError(f"Content type {media_type.name!r} is not supported for channel {self.config.name!r}")
        return media_type

    def tables(self, *, feature_dim: int | None = None, labelled: bool, epoch: int = 0) -> Iterator[Table]:
        """Yield the rows of one epoch, in order; ends early when a stop is requested.

        Args:
            feature_dim: Numbers in each row without the label; None takes what the first row has.
            labelled: Whether the algorithm uses labels. If not, plain `text/csv` may or may not have a label column:
                it has one unless its width equals feature_dim.
            epoch: Number of the pass; in Pipe mode each may be read once.

        Raises:
            InputError: The data are missing, malformed or of another width.
        """
        media_type = self.media_type
        seen = 0
        try:
            for source in self._sources(epoch):
                for table in self._read(source, media_type, feature_dim, labelled):
                    feature_dim = feature_dim or table.width
                    if table.width != feature_dim:
                        raise self._bad_width(table.width, feature_dim, f"row {table.first_row + 1} of {source.name}")
                    seen += len(table)
                    yield table
                    if self.stop.requested:
                        return
        except StopRequested:
            return
        if not seen:
            raise InputError(f"channel {self.config.name!r} holds no rows")

    def _read(
        self, source: _Source, media_type: media_types.MediaType, feature_dim: int | None, labelled: bool
    ) -> Iterator[Table]:
        try:
            tables = (
                self._read_csv(source, media_type, feature_dim, labelled)
                if media_type.name == media_types.CSV
                else RecordTableReader().read(source.chunks)
            )
            for table in tables:
                require_finite(table, labels=labelled)
                yield table
        except BadRowWidth as exc:
            raise self._bad_width(exc.got, exc.expected, f"row {exc.row} of {source.name}") from exc
        except MalformedText as exc:
            raise InputError(f"{exc} of {source.name}") from exc
        except MalformedRecord as exc:
            # The first sentence is the service's own, which users search for.
            text = "Unable to parse record. Please make sure input data is in correct recordio format."
            raise InputError(f"{text} ({exc} of {source.name})") from exc

    def _read_csv(
        self, source: _Source, media_type: media_types.MediaType, feature_dim: int | None, labelled: bool
    ) -> Iterator[Table]:
        try:
            label_size = media_type.label_size
        except ValueError as exc:
            raise InputError(f"channel {self.config.name!r}: {exc}") from exc
        if labelled and label_size == 0:
            raise InputError(f"channel {self.config.name!r} must have labels, got {self.config.content_type!r}")
        if label_size is not None and label_size > 1:
            raise InputError(f"channel {self.config.name!r}: label_size must be 0 or 1, got {label_size}")
        width = None if feature_dim is None or label_size is None else feature_dim + label_size
        reader = CsvReader(width=width, ignored_columns=label_size or 0)
        for matrix in reader.read(source.chunks, CSV_BLOCK_BYTES):
            if label_size is None:
                label_size = self._guess_label_size(matrix.shape[1], feature_dim, labelled)
            yield Table(
                features=matrix[:, label_size:],
                labels=matrix[:, 0] if label_size else None,
                first_row=reader.rows - len(matrix),
                first_column=label_size,
                fits_float32=reader.fits_float32,
            )

    def _guess_label_size(self, width: int, feature_dim: int | None, labelled: bool) -> int:
        """Return 1, as SageMaker assumes for plain text/csv, unless only 0 fits an algorithm without labels."""
        if labelled or width != feature_dim:
            return 1
        self.log.warning(
            f"Channel {self.config.name!r} is text/csv without label_size and its rows have feature_dim={feature_dim} "
            "numbers: taken as unlabelled. Say text/csv;label_size=0."
        )
        return 0

    def _sources(self, epoch: int) -> Iterator[_Source]:
        if self.config.input_mode != "Pipe":
            files = sorted(p for p in self._folder().rglob("*") if p.is_file() and not p.name.startswith("."))
            if not files:
                raise InputError(f"channel {self.config.name!r} holds no files")
            for path in files:
                with path.open("rb", buffering=0) as stream:
                    yield _Source(name=str(path.relative_to(self._folder())), chunks=self._chunks(stream))
            return
        with self._open_fifo(epoch) as stream:
            name = f"channel {self.config.name}"
            chunks = self._chunks(stream)
            if self.config.record_wrapper == "RecordIO" and self.media_type.name != media_types.RECORDIO_PROTOBUF:
                # "each object becomes one RecordIO record": the rows of one never go on in the next
                number = 0
                for block in record_blocks(chunks, 1):
                    for payload in unframe(block, number):
                        number += 1
                        yield _Source(name=f"object {number} of {name}", chunks=iter([payload]))
            else:
                yield _Source(name=name, chunks=chunks)

    def _folder(self) -> Path:
        return self.data_dir / self.config.name

    def _open_fifo(self, epoch: int) -> BinaryIO:
        path = self.data_dir / f"{self.config.name}_{epoch}"
        deadline = time.monotonic() + FIFO_WAIT_SECONDS
        while True:
            try:
                return open(path, "rb", buffering=0, opener=_open_at_once)
            except FileNotFoundError:
                if time.monotonic() > deadline:
                    raise InputError(f"no FIFO {path.name} appeared within {FIFO_WAIT_SECONDS:.0f} s") from None
                self.stop.pause(_FIFO_POLL_SECONDS)

    def _chunks(self, stream: BinaryIO) -> Iterator[bytes]:
        while True:
            self.stop.wait_readable(stream.fileno())
            chunk = stream.read(CHUNK_BYTES)
            if not chunk:
                return
            yield chunk

    def _bad_width(self, got: int, expected: int, where: str) -> InputError:
        """Return the service's words; in Pipe mode a row that is too long may be the last and first of two files."""
        follows_another = self.config.input_mode == "Pipe" and self.config.record_wrapper == "None"
        if follows_another and got > expected and self.media_type.name == media_types.CSV:
            where += "; is there a file without a final line feed?"
        return InputError(f"cannot copy sequence with size {got} to array axis with dimension {expected} ({where})")


def _open_at_once(path: str, flags: int) -> int:
    """Open a FIFO without waiting for its writer, for nothing could break that wait off; its data are waited for."""
    return os.open(path, flags | os.O_NONBLOCK)
