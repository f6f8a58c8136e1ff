"""`millrace image`: build images from Dockerfiles, and look at those that are there."""

import asyncio
import os
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from millrace.commands.open_jobs import OpenJobs
from millrace.errors import UsageError
from millrace.images.builder import Builder, BuildRequest
from millrace.images.parser import parse_dockerfile
from millrace.images.patterns import BadPattern, IgnoreRules
from millrace.images.pip_settings import find_pip_settings
from millrace.images.placing import BuildContext
from millrace.images.problems import BuildFailed
from millrace.ports.images import ImageName, Manifest
from millrace.private_folder import make_private_folder
from millrace.retention.images import find_images_in_use
from millrace.runtimes.sandbox_probe import probe_sandbox
from millrace.settings import Settings
from millrace.store.image_files import ImageFiles
from millrace.store.image_removal import remove_unused, sweep_drafts
from millrace.store.opening import has_state

__all__ = ["BuildOptions", "build_image", "list_images", "remove_images", "show_image"]

MAX_DOCKERFILE_BYTES = 1024 * 1024
STANDARD_INPUT = Path("-")
LAST_LINES = 50
"""Lines of a failed command that a quiet build prints."""

_SHORT = 19
"""Characters of a digest that tables show: `sha256:` and twelve digits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildOptions:
    """The command line of a build."""

    context: Path
    tags: Sequence[str]
    file: Path | None
    arguments: Mapping[str, str]
    target: str | None
    use_cache: bool
    quiet: bool


def build_image(settings: Settings, options: BuildOptions) -> int:
    """Build an image and tag it; 1 if an instruction failed.

    Raises:
        UsageError: Context, Dockerfile or a tag is none, or nothing here can build.
    """
    names = [ImageName.parse(tag) for tag in options.tags]
    for name, tag in zip(names, options.tags, strict=True):
        if name.digest is not None:
            raise UsageError(f"--tag {tag}: a digest is what an image gets, not what it can be given")
    if not options.context.is_dir():
        raise UsageError(f"{options.context} is no folder")
    if options.file == STANDARD_INPUT:
        file, text = options.context / "Dockerfile", _read_standard_input()
    else:
        file = options.file or options.context / "Dockerfile"
        text = _read_text(file)
    ignore_file = _find_ignore_file(options.context, file)
    try:
        rules = IgnoreRules(_read_text(ignore_file) if ignore_file is not None else "")
    except BadPattern as exc:
        raise UsageError(f"{ignore_file}: {exc}") from exc
    dockerfile = parse_dockerfile(text, file=file.name)
    make_private_folder(settings.data_dir, known_by=settings.database_path.name)
    finding = probe_sandbox(settings.sandbox_dir)
    if not finding.works:
        raise UsageError(f"native builds need the sandbox, which does not work here: {finding.detail}")
    store = ImageFiles(settings.images_dir)
    sweep_drafts(store)
    reporter = _Quiet() if options.quiet else _Printer()
    builder = Builder(
        store,
        cache=settings.sandbox_dir,
        pip=find_pip_settings(os.environ, home=Path.home()),
        reporter=reporter,
    )
    request = BuildRequest(
        context=BuildContext(options.context.resolve(), rules),
        file=file.name,
        arguments=options.arguments,
        use_cache=options.use_cache,
        target=options.target,
        names=names,
    )
    os.umask(0o022)  # as in containers: folders of a layer must be open to an image's own users
    try:
        manifest = asyncio.run(builder.build(dockerfile, request))
    except BuildFailed as exc:
        for line in reporter.unseen:
            print(f"    {line}", file=sys.stderr)
        print(f"millrace image build: {exc}", file=sys.stderr)
        return 1
    if options.quiet:
        print(manifest.digest)
    else:
        print(f"built {manifest.digest[:_SHORT]}, {_bytes(manifest.size)} in {len(manifest.layers)} layers")
        for tag in options.tags:
            print(f"tagged {tag}")
    return 0


def _read_text(file: Path) -> str:
    try:
        if file.stat().st_size > MAX_DOCKERFILE_BYTES:
            raise UsageError(f"{file} has more than {MAX_DOCKERFILE_BYTES} bytes")
        return file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise UsageError(f"{file} can't be read: {getattr(exc, 'strerror', None) or exc}") from exc


def _read_standard_input() -> str:
    try:
        content = sys.stdin.buffer.read(MAX_DOCKERFILE_BYTES + 1)
        if len(content) > MAX_DOCKERFILE_BYTES:
            raise UsageError(f"the Dockerfile from standard input has more than {MAX_DOCKERFILE_BYTES} bytes")
        return content.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise UsageError(f"the Dockerfile from standard input can't be read: {exc}") from exc


def _find_ignore_file(context: Path, file: Path) -> Path | None:
    """Return the ignore file of this Dockerfile, else the context's, or None."""
    candidates = (file.with_name(f"{file.name}.dockerignore"), context / ".dockerignore")
    return next((it for it in candidates if it.is_file()), None)


class _Quiet:
    """Prints only warnings, and keeps the last lines of commands for the case that one fails."""

    def __init__(self) -> None:
        self.unseen: deque[str] = deque(maxlen=LAST_LINES)

    def step(self, number: int, total: int, text: str, *, cached: bool) -> None:
        pass

    def line(self, text: str) -> None:
        self.unseen.append(text)

    def warn(self, text: str) -> None:
        print(f"warning: {text}", file=sys.stderr, flush=True)


class _Printer(_Quiet):
    """Prints all, a line each."""

    def step(self, number: int, total: int, text: str, *, cached: bool) -> None:
        shown = " ".join(text.split())
        print(f"[{number}/{total}] {shown}{'  (cached)' if cached and _makes_layer(shown) else ''}", flush=True)

    def line(self, text: str) -> None:
        print(f"    {text}", flush=True)


def _makes_layer(text: str) -> bool:
    return text.partition(" ")[0].upper() in ("RUN", "COPY", "ADD", "FROM", "WORKDIR")


def list_images(settings: Settings, *, as_json: bool) -> int:
    """Print all tags."""
    store = ImageFiles(settings.images_dir)
    rows = []
    for tagged in store.list_tags():
        manifest = store.find(ImageName(repository=tagged.repository, digest=tagged.digest))
        rows.append((tagged, manifest))
    if as_json:
        for tagged, manifest in rows:
            _print_json({**asdict(tagged), "size": manifest.size if manifest else None})
        return 0
    width = max([10, *(len(it.repository) for it, _ in rows)])
    print(f"{'REPOSITORY':<{width}}  {'TAG':<16}  {'DIGEST':<{_SHORT}}  {'PUSHED':<20}  SIZE")
    for tagged, manifest in rows:
        size = _bytes(manifest.size) if manifest else "missing"
        print(
            f"{tagged.repository:<{width}}  {tagged.tag:<16}  {tagged.digest[:_SHORT]}  "
            f"{tagged.pushed_at:%Y-%m-%dT%H:%M:%SZ}  {size}"
        )
    return 0


def show_image(settings: Settings, uri: str) -> int:
    """Print one image as JSON: configuration, layers and what made them."""
    manifest = _find(ImageFiles(settings.images_dir), uri)
    _print_json({**asdict(manifest), "size": manifest.size})
    return 0


def remove_images(settings: Settings, uris: Sequence[str], *, force: bool) -> int:
    """Remove tags, then the images and layers that nothing needs any more.

    What unfinished jobs and endpoints run stays; so do its tags, without `force`.

    Raises:
        UsageError: A name is no image, or one is in use; nothing is removed then.
    """
    store = ImageFiles(settings.images_dir)
    in_use = asyncio.run(_find_in_use(settings, store))
    names = [ImageName.parse(uri) for uri in uris]
    for name, uri in zip(names, uris, strict=True):
        manifest = _find(store, uri)
        if manifest.digest in in_use and not force:
            raise UsageError(
                f"{name} is used by a job or an endpoint; stop it first, or take the tag away with --force"
            )
    for name in names:
        store.untag(name)
        print(f"untagged {name}")
    removed = remove_unused(store, in_use=in_use)
    if removed is None:
        print("a build runs: layers that nothing needs stay until the next `millrace image rm` or `millrace gc`")
    elif removed.size:
        print(f"freed {_bytes(removed.size)}")
    return 0


async def _find_in_use(settings: Settings, store: ImageFiles) -> frozenset[str]:
    if not has_state(settings):
        return frozenset()
    with OpenJobs(settings) as jobs:
        return await find_images_in_use(jobs.store, store)


def _find(store: ImageFiles, uri: str) -> Manifest:
    manifest = store.find(ImageName.parse(uri))
    if manifest is None:
        raise UsageError(f"there is no image {uri}; `millrace image list` shows all")
    return manifest


def _print_json(document: dict[str, Any]) -> None:
    sys.stdout.buffer.write(orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_INDENT_2))
    sys.stdout.flush()


def _bytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 100_000 else f"{size / 1e3:.1f} kB"
