"""The reference pages say what the code says."""

import argparse
import re
import tomllib
from collections.abc import Iterator
from dataclasses import Field, fields
from pathlib import Path
from typing import Any, TypeVar

import pytest
from scripts import list_operations

from millrace import cli, settings
from millrace.app import ServerAddress
from millrace.commands.environment import client_environment
from millrace.dataplane.limits import Limits
from millrace.errors import ApiError, JobFailure
from millrace.protocol import faults
from millrace.services import iam, logs, s3, sagemaker, sagemaker_runtime, sts
from millrace.services.s3 import faults as s3_faults
from millrace.settings import Settings
from tests.docs.markdown import ROOT, table_rows

T = TypeVar("T")

DOCS = ROOT / "docs"
SERVICES = (iam, logs, s3, sagemaker, sagemaker_runtime, sts)
"""Imported so that their error classes are known."""


@pytest.mark.parametrize("entry", fields(Settings), ids=lambda entry: str(entry.name))
def test_every_setting_is_documented(entry: Field[Any]) -> None:
    """Each setting stands in docs/settings.md with its variable, field, type, default and meaning."""
    metadata, name = entry.metadata, entry.name
    default = "~/.millrace" if name == "data_dir" else entry.default
    kind = entry.type if isinstance(entry.type, str) else entry.type.__name__
    expected = [f"`{metadata['variable']}`", f"`{name}`", kind, f"`{default}`", metadata["help"]]
    assert expected in table_rows((DOCS / "settings.md").read_text("utf-8"))


def test_no_setting_is_invented() -> None:
    """Every row of the first table of docs/settings.md is a setting."""
    known = {f"`{entry.name}`" for entry in fields(Settings)}
    rows = [row for row in table_rows((DOCS / "settings.md").read_text("utf-8")) if len(row) == 5]
    assert {row[1] for row in rows[2:]} == known


@pytest.mark.parametrize("entry", fields(Limits), ids=lambda entry: str(entry.name))
def test_every_bound_of_the_data_plane_is_documented(entry: Field[Any]) -> None:
    """Each field of Limits stands in docs/settings.md with its default."""
    rows = {row[0]: row[1] for row in table_rows((DOCS / "settings.md").read_text("utf-8"))}
    default = getattr(Limits(), entry.name)
    assert _size(default) == rows[f"`{entry.name}`"].partition(" (")[0]


def _size(number: float) -> str:
    """Return a default as the page writes it."""
    for unit, size in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if number >= size and number % size == 0 and number != 16_384:  # a number of payloads, not of bytes
            return f"{number // size} {unit}"
    return str(number)


def _parsers(parser: argparse.ArgumentParser, name: str = "millrace") -> Iterator[tuple[str, argparse.ArgumentParser]]:
    yield name, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, child in action.choices.items():
                yield from _parsers(child, f"{name} {word}")


COMMANDS = dict(_parsers(cli._parser()))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_and_option_is_documented(command: str) -> None:
    """Each command and each of its options stands in docs/cli.md, in the command's own section, with its choices."""
    page = (DOCS / "cli.md").read_text("utf-8")
    if command == "millrace":
        assert "`millrace --version`" in page
        return
    words = command.split()
    sections = dict(part.split("\n", 1) for part in page.split("\n## ")[1:])
    section = sections[" ".join(words[:2])]
    assert len(words) == 2 or command in section
    for action in COMMANDS[command]._actions:
        for option in action.option_strings:
            if option in ("-h", "--help"):
                continue
            assert f"`{option}" in section or f" {option} " in section, f"{command} {option} is not in docs/cli.md"
        if action.option_strings and action.choices is not None:
            assert all(f"`{choice}`" in section for choice in action.choices)


@pytest.mark.parametrize("command", [name for name in COMMANDS if name.count(" ") == 1])
def test_no_option_is_invented(command: str) -> None:
    """Each option that docs/cli.md tables for a command is one of its options."""
    page = (DOCS / "cli.md").read_text("utf-8")
    section = dict(part.split("\n", 1) for part in page.split("\n## ")[1:])[command]
    known = {
        option
        for name, parser in COMMANDS.items()
        if name == command or name.startswith(f"{command} ")
        for action in parser._actions
        for option in action.option_strings
    }
    told = {row[0].strip("`").split()[0] for row in table_rows(section) if row[0].startswith("`--")}
    assert told <= known


def test_operations_page_is_what_the_script_writes() -> None:
    """docs/operations-served.md lists exactly the operations of the handler tables."""
    written = list_operations.PAGE.read_text("utf-8")
    assert written == list_operations.render(list_operations.operations_served()), (
        "run `python scripts/list_operations.py` and commit the page"
    )


def test_every_variable_for_clients_is_explained(tmp_path: Path) -> None:
    """Each variable that `millrace env --proxy` prints stands in docs/getting-started.md."""
    address = ServerAddress(url="http://127.0.0.1:1", process_id=1, proxy_url="http://127.0.0.1:2", proxy_ca="ca.pem")
    printed = client_environment(settings.load({}, data_dir=tmp_path), address, proxy=True)
    page = (DOCS / "getting-started.md").read_text("utf-8")
    assert [name for name in printed if f"`{name}`" not in page] == []


def _classes(root: type[T]) -> Iterator[type[T]]:
    for child in root.__subclasses__():
        yield child
        yield from _classes(child)


def _codes() -> set[str]:
    """Return every code that an answer can have."""
    codes = {cls.code for cls in _classes(ApiError)} | set(s3_faults._FAULTS)
    for table in (*faults._AUTH_CODES.values(), *faults._CALLED.values()):
        codes |= {code for code, _ in table.values()}
    return codes


def test_every_error_code_is_documented() -> None:
    """Each code that Millrace can answer stands in docs/errors.md."""
    page = (DOCS / "errors.md").read_text("utf-8")
    assert sorted(code for code in _codes() if f"`{code}`" not in page) == []


def test_every_s3_error_has_its_status_documented() -> None:
    """Each of S3's codes stands in docs/errors.md with the status that is answered."""
    told = {row[0].strip("`"): row[1] for row in table_rows((DOCS / "errors.md").read_text("utf-8")) if len(row) == 3}
    assert {code: told.get(code) for code in s3_faults._FAULTS} == {
        code: str(status) for code, (status, _) in s3_faults._FAULTS.items()
    }


def test_every_class_of_failure_is_documented() -> None:
    """Each label that a FailureReason can start with stands in docs/errors.md."""
    page = (DOCS / "errors.md").read_text("utf-8")
    assert all(f"`{cls.label}`" in page for cls in _classes(JobFailure))


def test_every_dependency_has_its_reason() -> None:
    """Each package of pyproject.toml stands in docs/design/dependencies.md, and no other does."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    required = [*project["dependencies"], *(it for extra in project["optional-dependencies"].values() for it in extra)]
    told = {
        name.strip("` ")
        for row in table_rows((DOCS / "design" / "dependencies.md").read_text("utf-8"))
        if row[0].startswith("`")
        for name in row[0].split(",")
    }
    assert told == {re.split(r"[<>=!~ \[]", it, maxsplit=1)[0] for it in required}
