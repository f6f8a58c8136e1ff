"""A real PostgreSQL server for the tests, which start it themselves."""

import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from millrace.store.postgresql import PostgresqlDatabase

__all__ = ["PostgresqlServer", "find_binaries", "running_server"]

TEMPLATE = "millrace_template"


def find_binaries() -> Path | None:
    """Return the folder of initdb and pg_ctl, the newest release's, or None if this machine has none."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).parent
    releases = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    return max((path.parent for path in releases), key=lambda path: float(path.parent.name), default=None)


class PostgresqlServer:
    """One cluster below a folder, reached by a socket in it. It may be stopped and started in any way."""

    def __init__(self, folder: Path, binaries: Path) -> None:
        self._folder = folder
        self._binaries = binaries
        self._numbers = itertools.count(1)
        # PostgreSQL refuses to run as root.
        self._user = "postgres" if os.geteuid() == 0 and _exists("postgres") else "nobody"
        if os.geteuid() == 0:
            shutil.chown(folder, self._user)

    def make(self) -> None:
        """Make the cluster, start it, and make the database that the tests' are copies of."""
        self._run("initdb", "--pgdata", "data", "--auth", "trust", "--username", "millrace", "--no-sync")
        settings = (
            "listen_addresses = ''\n"
            f"unix_socket_directories = '{self._folder}'\n"
            "fsync = off\n"  # the tests stop the server, not the machine
            "max_connections = 200\n"
        )
        with (self._folder / "data" / "postgresql.conf").open("a") as file:
            file.write(settings)
        self.start()
        self._create(TEMPLATE, "template0")
        database = PostgresqlDatabase(self.url(TEMPLATE), connections=1, statement_seconds=30, wait_seconds=0)
        database.close()

    def start(self) -> None:
        self._run("pg_ctl", "--pgdata", "data", "--wait", "--log", "log", "start")

    def stop(self, mode: str = "immediate") -> None:
        """Stop: "fast" as an operator does, "immediate" as a crash would."""
        self._run("pg_ctl", "--pgdata", "data", "--wait", "--mode", mode, "stop")

    def url(self, database: str) -> str:
        return f"postgresql://millrace:hush-hush@/{database}?host={self._folder}"

    def create_database(self, *, empty: bool = False) -> str:
        """Return the address of a new database; it has our tables unless it is to be empty."""
        name = f"shop{next(self._numbers)}"
        self._create(name, "template0" if empty else TEMPLATE)
        return self.url(name)

    def _create(self, name: str, template: str) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}".encode())

    def _run(self, program: str, *arguments: str) -> None:
        as_user = {"user": self._user, "extra_groups": []} if os.geteuid() == 0 else {}
        with (self._folder / "output").open("ab") as output:
            subprocess.run(
                [self._binaries / program, *arguments],
                cwd=self._folder,
                stdout=output,
                stderr=output,
                check=True,
                **as_user,  # type: ignore[call-overload]
            )


@contextmanager
def running_server(binaries: Path) -> Iterator[PostgresqlServer]:
    """Start a server in a temporary folder for the time of the block."""
    with tempfile.TemporaryDirectory(prefix="millrace-postgresql-") as folder:  # pytest's are not for other users
        server = PostgresqlServer(Path(folder), binaries)
        server.make()
        try:
            yield server
        finally:
            server.stop()


def _exists(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True
