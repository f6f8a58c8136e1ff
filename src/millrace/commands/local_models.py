"""Find the containers that `--model` and `--image` name."""

import io
import json
import tarfile
from pathlib import Path
from typing import BinaryIO

from millrace.agents.archives import Tree, pack
from millrace.clock import SystemClock
from millrace.errors import UsageError
from millrace.jobs.endpoint import ExecutionMode, ModelContainer, ModelData
from millrace.names import DEFAULT_REGION
from millrace.services.sagemaker.models import KIND, execution_mode, model_containers
from millrace.settings import Settings
from millrace.store.opening import has_state, open_database
from millrace.store.sql_documents import SqlDocumentStore

__all__ = ["find_containers"]

MANIFEST_MEMBER = "millrace.json"


async def find_containers(
    settings: Settings, model: str, image: str | None, aliases: dict[str, Path], scratch: Path
) -> tuple[ModelContainer, ...]:
    """Return the containers that the model options name: one, or as many as a model of the data directory has.

    Args:
        settings: Where models are looked up by name.
        model: An archive, a folder, an s3 address or a name.
        image: The image, if it was said.
        aliases: Gets the local folder of an archive, as a bucket.
        scratch: Where a folder is packed.
    """
    path = Path(model).expanduser()
    if model.startswith("s3://"):
        if image is None:
            raise UsageError("--model: an s3 address needs --image")
        return (ModelContainer(image=image, data=ModelData(uri=model)),)
    if path.exists():
        archive = path if path.is_file() else _packed(path, scratch)
        known = image or _built_in(archive)
        if known is None:
            raise UsageError(f"--model: {path} does not say which image it belongs to; give --image")
        bucket = f"local{len(aliases)}"
        aliases[bucket] = archive.absolute().parent
        return (ModelContainer(image=known, data=ModelData(uri=f"s3://{bucket}/{archive.name}")),)
    if image is not None:
        raise UsageError(f"--model: there is no file or folder {path}")
    return await _registered_model(settings, model)


def _packed(folder: Path, scratch: Path) -> Path:
    archive = scratch / "model" / "model.tar.gz"
    archive.parent.mkdir()
    with archive.open("wb") as sink:
        pack([Tree(folder)], sink)
    return archive


def _built_in(archive: Path) -> str | None:
    """Return the image of the built-in algorithm that made an archive, or None."""
    try:
        with tarfile.open(archive, "r:gz") as tar:
            member: BinaryIO | None = None
            for entry in tar:
                if entry.name.removeprefix("./") == MANIFEST_MEMBER:
                    member = tar.extractfile(entry)  # type: ignore[assignment]  # IO[bytes] by another name
                    break
            algorithm = json.load(io.BytesIO(member.read()))["algorithm"] if member is not None else None
    except (tarfile.TarError, OSError, ValueError, KeyError):
        return None
    return f"{algorithm}:1" if isinstance(algorithm, str) else None


async def _registered_model(settings: Settings, name: str) -> tuple[ModelContainer, ...]:
    if has_state(settings):
        database = open_database(settings)
        try:
            document = await SqlDocumentStore(database, clock=SystemClock()).find(KIND, DEFAULT_REGION, name)
        finally:
            database.close()
        if document is not None:
            if execution_mode(document.content) is ExecutionMode.DIRECT:
                raise UsageError(
                    f"--model: {name!r} must have InferenceExecutionConfig.Mode 'Serial', got 'Direct': nothing says "
                    "which of its containers a record is for"
                )
            return model_containers(document.content)
    raise UsageError(f"--model: {name!r} is neither a file nor a model of {settings.data_dir}")
