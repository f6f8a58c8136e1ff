"""List the input of a job: whole, or page by page while the first objects are transformed already.

Theory. Where two inputs would share an output the job must fail before anything is written, and what a job writes must
not be among its inputs. A listing that is whole before the first request has neither danger, but it takes 20 us an
object. Nearly every job of one instance can do without: its outputs go elsewhere, and keys below a folder have outputs
of their own. So a listing longer than a page is whole only where one of the dangers is there, or where somebody has to
see all of it. Then it is kept in a file.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from millrace.dataplane.input_file import BLOCK_OBJECTS, InputFile
from millrace.dataplane.inputs import Inputs, InputStream, KeptInputs, ListedInputs
from millrace.dataplane.manifest import ManifestEntry, parse_manifest
from millrace.dataplane.plan import Found, InputObject, check_outputs, in_key_order, name_outputs, named
from millrace.errors import ClientFailure
from millrace.jobs.report_keys import is_report
from millrace.jobs.transform import SourceType, TransformSpec
from millrace.names import ObjectPrefix, ObjectRef, relative_key
from millrace.ports.objects import NoSuchBucket, NoSuchKey, ObjectStore, ObjectUnreadable

__all__ = ["check_manifest", "has_input", "list_ahead", "list_inputs", "list_whole"]

LIST_PAGE = 1000
"""Objects that are listed at a time."""

MANIFEST_BYTES = 64 * 1024 * 1024
"""Longest manifest that is read: about a million keys."""

CHECKED_MANIFEST_BYTES = 4 * 1024 * 1024
"""Longest manifest that the create call reads; a longer one is checked when the job runs."""

STAT_WINDOW = 32
"""Manifest entries whose size is asked for at a time."""


async def list_inputs(objects: ObjectStore, spec: TransformSpec) -> list[InputObject]:
    """Return the objects of a job in key order, each with its output: 430 bytes an object.

    Folder markers (size 0, key ends with "/") are left out, and so are reports of earlier jobs below a prefix;
    duplicates of a manifest count once.

    Raises:
        ClientFailure: The manifest is missing or malformed, or two inputs share one output.
    """
    found = [entry async for page in _all_pages(objects, spec) for entry in page]
    # A million take six seconds: on the loop nobody would hear of the agent meanwhile, and its work be another's.
    return await asyncio.to_thread(name_outputs, found, spec.output)


async def list_whole(
    objects: ObjectStore,
    spec: TransformSpec,
    folder: Path,
    *,
    cut: Callable[[Iterable[InputObject]], Iterable[InputObject]] = iter,
) -> InputFile:
    """Return what `list_inputs` does, in a file in `folder`, which the caller closes.

    `cut` makes of objects what is kept of them: themselves, or ranges of them.

    Raises:
        ClientFailure: As in `list_inputs`.
    """
    kept = InputFile(folder)
    may_share = spec.source_type is SourceType.MANIFEST
    try:
        async for page in _all_pages(objects, spec):
            may_share = may_share or next(_sharers(page, spec.source), None) is not None
            await asyncio.to_thread(_keep, kept, cut(named(page, spec.output)))
        if may_share:
            await asyncio.to_thread(check_outputs, kept)
    except BaseException:
        kept.close()
        raise
    return kept


def _keep(kept: InputFile, inputs: Iterable[InputObject]) -> None:
    """Add inputs to a file, a few at a time: those of one page may have a million ranges."""
    rest = iter(inputs)
    while block := list(islice(rest, BLOCK_OBJECTS)):
        kept.add(block)


async def _all_pages(objects: ObjectStore, spec: TransformSpec) -> AsyncIterator[Sequence[Found]]:
    """Yield the whole input in key order; raises ClientFailure."""
    if spec.source_type is SourceType.MANIFEST:
        entries = await _manifest_entries(objects, spec.source)
        for start in range(0, len(entries), STAT_WINDOW):
            window = entries[start : start + STAT_WINDOW]
            looked_up = await asyncio.gather(*(_look_up(objects, entry.ref, entry.relative) for entry in window))
            yield [entry for entry in looked_up if not (entry.version and _is_marker(entry.ref.key, entry.size))]
        return
    pages = _Pages(objects, spec.source)
    while pages.more:
        yield await pages.next()


async def list_ahead(
    objects: ObjectStore, spec: TransformSpec, folder: Path, *, page_objects: int = LIST_PAGE
) -> Inputs:
    """Return the objects of a job in key order, each with its output: those of further pages as they are listed.

    Args:
        objects: Where the input is.
        spec: What the client asked for, of one instance.
        folder: For what is listed long before it is taken.
        page_objects: How many objects are listed at a time.

    Raises:
        ClientFailure: As in `list_inputs`; what is wrong with further pages is raised to whoever takes these.
    """
    if spec.source_type is SourceType.MANIFEST or _may_list_outputs(spec):
        return KeptInputs(await list_whole(objects, spec, folder))
    pages = _Pages(objects, spec.source, page_objects)
    found = await pages.next()
    if not pages.more:
        return ListedInputs(name_outputs(found, spec.output))
    if await _may_share_outputs(objects, spec.source):
        return KeptInputs(await list_whole(objects, spec, folder))
    return InputStream(_name_pages(found, pages, spec), folder=folder)


class _Pages:
    """The listing of a prefix; there are `more` pages until the last one was returned."""

    def __init__(self, objects: ObjectStore, source: ObjectPrefix, limit: int = LIST_PAGE) -> None:
        self._objects = objects
        self._source = source
        self._limit = limit
        self._after = ""
        self.more = True

    async def next(self) -> list[Found]:
        """Return what is input of the next page, maybe nothing."""
        source = self._source
        try:
            page = await self._objects.list_objects(
                source.bucket, prefix=source.prefix, after=self._after, limit=self._limit
            )
        except NoSuchBucket as exc:
            raise ClientFailure(f"bucket {source.bucket} of {source} does not exist") from exc
        except ObjectUnreadable as exc:
            raise ClientFailure(f"{source} can't be listed: {exc.subject}: {exc.detail}") from exc
        self.more = page.next_after is not None
        self._after = page.next_after or ""
        return [
            Found(entry.ref, entry.size, relative_key(source.prefix, entry.ref.key), entry.etag)
            for entry in page.objects
            if not _is_marker(entry.ref.key, entry.size) and not is_report(entry.ref.key)
        ]


async def _name_pages(found: list[Found], pages: _Pages, spec: TransformSpec) -> AsyncIterator[Sequence[InputObject]]:
    """Yield the objects of the first page, and those of all others.

    Raises:
        ClientFailure: An object whose output may be that of another was written since the listing began.
    """
    while True:
        sharing = next(_sharers(found, spec.source), None)
        if sharing is not None:
            raise ClientFailure(
                f"while {spec.source} was listed, {sharing} was written, whose output may be that of another object. "
                "Run the job again"
            )
        yield named(found, spec.output)
        if not pages.more:
            return
        found = await pages.next()


def _may_list_outputs(spec: TransformSpec) -> bool:
    """Return whether what the job writes may be found by listing its input."""
    written = [spec.output, *([spec.capture.destination] if spec.capture is not None else [])]
    return any(_may_meet(spec.source, target) for target in written)


def _may_meet(source: ObjectPrefix, target: ObjectPrefix) -> bool:
    folder = target.join("").key
    return source.bucket == target.bucket and (folder.startswith(source.prefix) or source.prefix.startswith(folder))


def _sharing(source: ObjectPrefix) -> str | None:
    """Return the prefix of those keys of which each may have the same relative name as another key; None if none can.

    Of `in/day`, which selects `in/day/...` and `in/day1`, these are the keys that begin with `in/day/day`; and the
    folder `in/day/` itself, if it has content, which is called `day` like the object `in/day`.
    """
    if not source.prefix or source.prefix.endswith("/"):
        return None
    return f"{source.prefix}/{source.prefix.rpartition('/')[2]}"


def _sharers(found: Iterable[Found], source: ObjectPrefix) -> Iterator[ObjectRef]:
    """Yield those objects that may have the same relative name as another one."""
    shared = _sharing(source)
    itself = source.prefix if shared is None else f"{source.prefix}/"
    for entry in found:
        if entry.ref.key == itself or (shared is not None and entry.ref.key.startswith(shared)):
            yield entry.ref


async def _may_share_outputs(objects: ObjectStore, source: ObjectPrefix) -> bool:
    """Return whether two objects may have one output; the price is a look at one key or two."""
    shared = _sharing(source)
    if shared is not None:
        page = await objects.list_objects(source.bucket, prefix=shared, limit=1)
        if page.objects:
            return True
    # The folder itself, if it has content: its output is called by its last name.
    folder = source.prefix if shared is None else f"{source.prefix}/"
    page = await objects.list_objects(source.bucket, prefix=folder, limit=1)
    return any(entry.ref.key == folder and entry.size for entry in page.objects)


def _is_marker(key: str, size: int) -> bool:
    """Return whether an object only says that there is a folder.

    Source:
        batch-transform.md 2.1: "size 0 and key ends with `/`" are skipped and produce no output.
    """
    return not size and key.endswith("/")


async def has_input(objects: ObjectStore, spec: TransformSpec) -> bool:
    """Return whether anything matches the prefix, or the manifest exists: cheap, for the create call."""
    try:
        if spec.source_type is SourceType.MANIFEST:
            if not spec.source.prefix:
                return False
            await objects.get(ObjectRef(spec.source.bucket, spec.source.prefix))
            return True
        page = await objects.list_objects(spec.source.bucket, prefix=spec.source.prefix, limit=1)
    except (NoSuchBucket, NoSuchKey):
        return False
    return bool(page.objects)


async def check_manifest(objects: ObjectStore, spec: TransformSpec) -> None:
    """Look whether a job's manifest, if it has one, can be read: for the create call.

    Raises:
        ClientFailure: It is missing or malformed.
    """
    if spec.source_type is SourceType.MANIFEST:
        ref = ObjectRef(spec.source.bucket, spec.source.prefix)
        text = await _manifest_text(objects, ref, read_at_most=CHECKED_MANIFEST_BYTES)
        if text is not None:
            await asyncio.to_thread(parse_manifest, text, str(ref))


async def _manifest_text(objects: ObjectStore, ref: ObjectRef, *, read_at_most: int) -> bytes | None:
    """Return the bytes of a manifest, None if it is longer than is read."""
    try:
        size = (await objects.get(ref)).size
        if size > MANIFEST_BYTES:
            raise ClientFailure(f"manifest {ref} must have at most {MANIFEST_BYTES} bytes, got {size}")
        if size > read_at_most:
            return None
        return b"".join([chunk async for chunk in objects.read(ref)])
    except (NoSuchBucket, NoSuchKey) as exc:
        raise ClientFailure(f"manifest {ref} does not exist") from exc
    except ObjectUnreadable as exc:
        raise ClientFailure(f"manifest {ref} can't be read: {exc.detail}") from exc


async def _manifest_entries(objects: ObjectStore, source: ObjectPrefix) -> list[ManifestEntry]:
    """Return the entries of a manifest in key order; raises ClientFailure."""
    ref = ObjectRef(source.bucket, source.prefix)
    text = await _manifest_text(objects, ref, read_at_most=MANIFEST_BYTES)
    entries = await asyncio.to_thread(parse_manifest, text or b"", str(ref))
    return await asyncio.to_thread(sorted, entries, key=lambda entry: in_key_order(entry.ref))


async def _look_up(objects: ObjectStore, ref: ObjectRef, relative: str) -> Found:
    """Return what is known of an object; one that can't be read has size 0, and fails by itself when it is."""
    try:
        info = await objects.get(ref)
    except (NoSuchBucket, NoSuchKey, ObjectUnreadable):
        return Found(ref, 0, relative)
    return Found(ref, info.size, relative, info.etag)
