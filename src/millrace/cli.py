"""The `millrace` command: its options, and which module carries a command out."""

import argparse
import os
import select
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from millrace import __version__, settings
from millrace.commands.transform_arguments import add_transform_options, request_of
from millrace.errors import MillraceError, UsageError
from millrace.settings import BadSettings, Settings

if TYPE_CHECKING:
    from millrace.commands.jobs import ListOptions

__all__ = ["main"]

READER_GONE = 128 + signal.SIGPIPE
"""Exit code of a command whose output nobody reads to its end: that of a program which the signal ended."""

Commands = argparse._SubParsersAction


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        code = int(options.run(options))
        sys.stdout.flush()
        return code
    except (BadSettings, MillraceError) as exc:
        print(f"millrace {options.command}: {exc}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        if not _reader_is_gone():
            raise
        return READER_GONE


def _reader_is_gone() -> bool:
    """Return whether nobody reads our output any more, as behind `| head`; what is left of it goes nowhere then."""
    output = select.poll()
    output.register(sys.stdout.fileno(), 0)
    if not any(event & select.POLLERR for _, event in output.poll(0)):
        return False
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
    return True


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="millrace", description="SageMaker's batch inference and ML job platform, self-hosted."
    )
    parser.add_argument("--version", action="version", version=f"millrace {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--data-dir", type=Path, help="folder of all state (default: $MILLRACE_DATA_DIR, ~/.millrace)")
    _add_serve(commands, shared)
    _add_environment(commands, shared)
    _add_transform(commands, shared)
    _add_jobs(commands, shared)
    _add_image(commands, shared)
    _add_keys(commands, shared)
    gc = commands.add_parser("gc", parents=[shared], help="remove what nobody needs any more")
    gc.add_argument("--dry-run", action="store_true", help="only tell what would go")
    gc.add_argument("--json", action="store_true", help="print JSON")
    gc.set_defaults(run=_gc)
    backup = commands.add_parser("backup", parents=[shared], help="copy the data directory while the server runs")
    backup.add_argument("folder", type=Path, metavar="FOLDER", help="the copy; must not exist yet")
    backup.add_argument("--json", action="store_true", help="print JSON")
    backup.set_defaults(run=_backup)
    doctor = commands.add_parser("doctor", parents=[shared], help="tell what works here and how to get the rest")
    doctor.set_defaults(run=_doctor)
    return parser


def _add_serve(commands: "Commands[argparse.ArgumentParser]", shared: argparse.ArgumentParser) -> None:
    serve = commands.add_parser("serve", parents=[shared], help="run the server in the foreground")
    serve.add_argument("--host", help="address to listen on (default: $MILLRACE_HOST, 127.0.0.1)")
    serve.add_argument("--port", type=int, help="port to listen on, 0 for a free one (default: $MILLRACE_PORT, 4600)")
    serve.add_argument("--stop-jobs", action="store_true", help="stop all jobs when the server ends")
    serve.add_argument("--stop-at-eof", action="store_true", help="end when the standard input is closed")
    serve.set_defaults(run=_serve)


def _add_environment(commands: "Commands[argparse.ArgumentParser]", shared: argparse.ArgumentParser) -> None:
    env = commands.add_parser("env", parents=[shared], help="print what makes AWS clients use the server")
    env.add_argument("--proxy", action="store_true", help="also what makes literal notebooks work: proxy and its CA")
    env.set_defaults(run=_env)
    execute = commands.add_parser("exec", parents=[shared], help="run a command with that environment")
    execute.add_argument("words", nargs=argparse.REMAINDER, metavar="-- CMD ...", help="the command")
    execute.set_defaults(run=_exec)


def _add_transform(commands: "Commands[argparse.ArgumentParser]", shared: argparse.ArgumentParser) -> None:
    transform = commands.add_parser("transform", parents=[shared], help="run one batch transform without a server")
    add_transform_options(transform)
    transform.set_defaults(run=_transform)


def _add_jobs(commands: "Commands[argparse.ArgumentParser]", shared: argparse.ArgumentParser) -> None:
    jobs = commands.add_parser("jobs", help="look at jobs, stop and resume them")
    actions = jobs.add_subparsers(dest="action", required=True, metavar="ACTION")
    region = argparse.ArgumentParser(add_help=False, parents=[shared])
    region.add_argument("--region", help="region of the jobs (default: us-east-1)")
    listing = actions.add_parser("list", parents=[region], help="the newest jobs")
    listing.add_argument("--limit", type=_positive, default=30, help="how many at most (default: 30)")
    listing.add_argument("--kind", choices=["transform-job", "training-job", "processing-job", "endpoint"])
    listing.add_argument("--status", metavar="STATUS", help="only jobs in this status, such as InProgress")
    listing.add_argument("--name", metavar="PART", help="only jobs whose name contains this")
    watch = actions.add_parser("watch", parents=[region], help="follow a job, or all that run, until the end")
    watch.add_argument("name", nargs="?", help="NAME or KIND/NAME")
    for printing in (listing, watch):
        printing.add_argument("--json", action="store_true", help="print one JSON object a line")
    for action, text in (
        ("show", "one job with its live counters and history, as JSON"),
        ("logs", "the log lines of a job"),
        ("stop", "ask a job to stop"),
        ("report", "how a transform job went that has ended: counts, rates, latencies, settings; as JSON"),
        ("resume", "start a transform job that goes on with what one left that failed or was stopped"),
    ):
        named = actions.add_parser(action, parents=[region], help=text)
        named.add_argument("name", help="NAME or KIND/NAME")
        if action == "resume":
            named.add_argument("--name", dest="new_name", help="name of the new job (default: NAME-resume-N)")
            named.add_argument("--quarantine", action="store_true", help="leave bad records out, and tell of them")
            named.add_argument("--wait", action="store_true", help="follow the new job until its end, as watch does")
        if action == "report":
            named.add_argument("--html", type=Path, metavar="FILE", help="write a page that needs nothing else instead")
        if action == "logs":
            named.add_argument("-f", "--follow", action="store_true", help="go on with lines to come until the end")
    jobs.set_defaults(run=_jobs)


def _add_image(commands: "Commands[argparse.ArgumentParser]", shared: argparse.ArgumentParser) -> None:
    image = commands.add_parser("image", help="build images, and look at those that are there")
    actions = image.add_subparsers(dest="action", required=True, metavar="ACTION")
    build = actions.add_parser("build", parents=[shared], help="build an image from a Dockerfile")
    build.add_argument("context", type=Path, metavar="DIR", help="folder of what COPY and ADD take")
    build.add_argument("--tag", "-t", action="append", required=True, metavar="NAME", help="name of the image (repeat)")
    build.add_argument(
        "--file", "-f", type=Path, metavar="PATH", help="the Dockerfile, - for standard input (default: DIR/Dockerfile)"
    )
    build.add_argument("--build-arg", action="append", default=[], metavar="K=V", help="value of an ARG (repeat)")
    build.add_argument("--target", metavar="STAGE", help="the stage that becomes the image (default: the last)")
    build.add_argument("--builder", choices=["auto", "native"], default="auto", help="what builds; both are native")
    build.add_argument("--no-cache", action="store_true", help="run all RUN instructions again")
    build.add_argument("--quiet", "-q", action="store_true", help="print only the digest")
    listing = actions.add_parser("list", parents=[shared], help="all tags")
    listing.add_argument("--json", action="store_true", help="print JSON")
    show = actions.add_parser("show", parents=[shared], help="one image: configuration, layers, history, as JSON")
    show.add_argument("name", metavar="NAME")
    remove = actions.add_parser("rm", parents=[shared], help="remove tags, and the layers that nothing needs then")
    remove.add_argument("names", nargs="+", metavar="NAME")
    remove.add_argument("--force", action="store_true", help="also tags of images that jobs or endpoints run")
    image.set_defaults(run=_image)


def _add_keys(commands: "Commands[argparse.ArgumentParser]", shared: argparse.ArgumentParser) -> None:
    keys = commands.add_parser("keys", help="make, list and remove access keys")
    actions = keys.add_subparsers(dest="action", required=True, metavar="ACTION")
    create = actions.add_parser("create", parents=[shared], help="make a key; its secret is shown this once")
    create.add_argument("--owner", metavar="NAME", help="name of the account; a new name makes a new account")
    create.add_argument("--account", metavar="ID", help="id of the account, 12 digits (default: $MILLRACE_ACCOUNT)")
    listing = actions.add_parser("list", parents=[shared], help="the keys without their secrets")
    for action in (create, listing):
        action.add_argument("--json", action="store_true", help="print JSON")
    remove = actions.add_parser("rm", parents=[shared], help="remove a key; a running server refuses it in a second")
    remove.add_argument("key_id", metavar="KEY_ID")
    keys.set_defaults(run=_keys)


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")
    return int(text)


def _settings(options: argparse.Namespace) -> Settings:
    return settings.load(
        data_dir=options.data_dir, host=getattr(options, "host", None), port=getattr(options, "port", None)
    )


def _serve(options: argparse.Namespace) -> int:
    import uvloop

    from millrace.app import run_server
    from millrace.log_format import set_up_logging
    from millrace.open_files import allow_many_files
    from millrace.private_folder import make_private_folder

    loaded = _settings(options)
    set_up_logging(loaded.log_level, loaded.log_format)
    make_private_folder(loaded.data_dir, known_by=loaded.database_path.name)
    allow_many_files()
    try:
        uvloop.run(run_server(loaded, stop_jobs=options.stop_jobs, stop_at_eof=options.stop_at_eof))
    except OSError as exc:
        print(f"millrace serve: can't listen on {loaded.host}:{loaded.port}: {exc.strerror}", file=sys.stderr)
        return 1
    return 0


def _env(options: argparse.Namespace) -> int:
    from millrace.commands.environment import print_environment

    return print_environment(_settings(options), proxy=options.proxy)


def _exec(options: argparse.Namespace) -> int:
    from millrace.commands.environment import execute

    words = options.words[1:] if options.words[:1] == ["--"] else options.words
    if not words:
        print("millrace exec: give the command after --", file=sys.stderr)
        return 2
    is_named = options.data_dir is not None or "MILLRACE_DATA_DIR" in os.environ
    given = _settings(options) if is_named else None
    return execute(given, words, lambda folder: settings.load(data_dir=folder))


def _transform(options: argparse.Namespace) -> int:
    request = request_of(options)
    from millrace.commands import transform

    loaded = _settings(options)
    _log_warnings(loaded)
    if options.explain:
        return transform.explain(loaded, request)
    if options.dry_run:
        return transform.dry_run(loaded, request)
    return transform.transform(loaded, request, report=options.report)


def _log_warnings(loaded: Settings) -> None:
    """Log as the settings say; what is only for information does not mix with what a command prints."""
    from millrace.log_format import set_up_logging

    set_up_logging("warning" if loaded.log_level == "info" else loaded.log_level, loaded.log_format)


def _list_options(options: argparse.Namespace) -> "ListOptions":
    from millrace.commands.jobs import ListOptions
    from millrace.jobs.job import JobKind, JobStatus

    status = None
    if options.status is not None:
        known = {it.value.lower(): it for it in JobStatus}
        status = known.get(options.status.lower())
        if status is None:
            choices = ", ".join(it.value for it in JobStatus)
            raise UsageError(f"--status must be one of {choices}, got {options.status!r}")
    return ListOptions(
        region=options.region,
        kind=None if options.kind is None else JobKind(options.kind),
        status=status,
        name_contains=options.name,
        limit=options.limit,
        as_json=options.json,
    )


def _jobs(options: argparse.Namespace) -> int:
    from millrace.commands import jobs

    loaded = _settings(options)
    match options.action:
        case "list":
            return jobs.list_jobs(loaded, _list_options(options))
        case "watch":
            from millrace.commands.watch import watch_jobs

            return watch_jobs(loaded, options.name, region=options.region, as_json=options.json)
        case "show":
            return jobs.show_job(loaded, options.name, region=options.region)
        case "logs":
            return jobs.show_logs(loaded, options.name, region=options.region, follow=options.follow)
        case "report":
            from millrace.commands.jobs_report import print_report

            return print_report(loaded, options.name, region=options.region, html=options.html)
        case "resume":
            from millrace.commands.jobs_resume import resume_job

            return resume_job(
                loaded,
                options.name,
                region=options.region,
                new_name=options.new_name,
                quarantines=options.quarantine,
                wait=options.wait,
            )
        case _:
            return jobs.stop_job(loaded, options.name, region=options.region)


def _image(options: argparse.Namespace) -> int:
    from millrace.commands import image

    loaded = _settings(options)
    match options.action:
        case "build":
            return image.build_image(
                loaded,
                image.BuildOptions(
                    context=options.context,
                    tags=options.tag,
                    file=options.file,
                    arguments=_build_arguments(options.build_arg),
                    target=options.target,
                    use_cache=not options.no_cache,
                    quiet=options.quiet,
                ),
            )
        case "list":
            return image.list_images(loaded, as_json=options.json)
        case "show":
            return image.show_image(loaded, options.name)
        case _:
            return image.remove_images(loaded, options.names, force=options.force)


def _build_arguments(words: Sequence[str]) -> Mapping[str, str]:
    """Return --build-arg values; one without `=` is taken from the environment, as Docker does."""
    values = {}
    for word in words:
        name, separator, value = word.partition("=")
        if not name:
            raise UsageError(f"--build-arg must be NAME=VALUE or NAME, got {word!r}")
        if separator:
            values[name] = value
        elif name in os.environ:
            values[name] = os.environ[name]
    return values


def _keys(options: argparse.Namespace) -> int:
    from millrace.commands import keys

    loaded = _settings(options)
    match options.action:
        case "create":
            return keys.create_key(loaded, owner=options.owner, account=options.account, as_json=options.json)
        case "list":
            return keys.list_keys(loaded, as_json=options.json)
        case _:
            return keys.remove_key(loaded, options.key_id)


def _gc(options: argparse.Namespace) -> int:
    from millrace.commands.gc import collect_garbage

    loaded = _settings(options)
    _log_warnings(loaded)
    return collect_garbage(loaded, dry_run=options.dry_run, as_json=options.json)


def _backup(options: argparse.Namespace) -> int:
    from millrace.commands.backup import back_up

    return back_up(_settings(options), options.folder, as_json=options.json)


def _doctor(options: argparse.Namespace) -> int:
    from millrace.commands.doctor import examine

    return examine(_settings(options))
