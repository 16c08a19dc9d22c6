"""What was measured: an SQLite file with every candidate of every kernel, its price and its time.

One file may hold the times of many kinds of machines, and may be copied to others: rows count only
for the processor and the emitter that they were measured with. A file that is damaged, or of a
newer brim, is told and not used.
"""

from __future__ import annotations

import hashlib
import sqlite3
import warnings
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from brim.objects import digest, emitter_stamp
from brim.targets.target import Target

FORMAT = 1  # PRAGMA user_version
_TABLES = """
CREATE TABLE IF NOT EXISTS kernel (digest BLOB PRIMARY KEY, text TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS machine (digest TEXT PRIMARY KEY, cpu TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS candidate (
    machine TEXT NOT NULL REFERENCES machine,
    kernel BLOB NOT NULL REFERENCES kernel,
    schedule TEXT NOT NULL,
    predicted REAL NOT NULL,
    measured REAL,
    PRIMARY KEY (machine, kernel, schedule)
) WITHOUT ROWID;
"""
_WAIT_SECONDS = 30.0  # for other processes that write


class Store:
    """The times of one kind of machine. path: None keeps them for this process only.

    Any number of processes may share a file. What cannot be written is told once, and kept here.
    """

    def __init__(self, path: Path | None, target: Target) -> None:
        self.path = path
        self._machine = digest(target.triple, target.cpu, target.features, emitter_stamp())
        self._cpu = f"{target.cpu} ({target.triple})"
        self._times: dict[bytes, dict[str, float]] = {}
        if path is not None and path.is_file():
            try:
                self._times = self._read(path)
            except (sqlite3.Error, ValueError, TypeError) as error:
                self._give_up(error)

    @property
    def has_times(self) -> bool:
        return bool(self._times)

    def times(self, kernel: str) -> dict[str, float]:
        """Schedule -> measured seconds, of a kernel by its text."""
        return self._times.get(_digest(kernel), {})

    def put(self, kernel: str, candidates: Iterable[tuple[str, float, float | None]]) -> None:
        """Keeps (schedule, predicted, measured or None) of a kernel; a new time replaces an old."""
        rows, key = list(candidates), _digest(kernel)
        measured = {schedule: time for schedule, _, time in rows if time is not None}
        self._times.setdefault(key, {}).update(measured)
        if self.path is None:
            return
        try:
            with self._writing(self.path) as file:
                file.execute("INSERT OR IGNORE INTO kernel VALUES (?, ?)", (key, kernel))
                file.executemany(
                    "INSERT INTO candidate VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
                    "predicted = excluded.predicted, "
                    "measured = coalesce(excluded.measured, measured)",
                    [(self._machine, key, *row) for row in rows],
                )
        except (sqlite3.Error, OSError) as error:
            self._give_up(error)

    def _read(self, path: Path) -> dict[bytes, dict[str, float]]:
        found: dict[bytes, dict[str, float]] = {}
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as file:
            if not _format(file):
                return found  # made a moment ago, and not yet filled
            query = (
                "SELECT kernel, schedule, measured FROM candidate "
                "WHERE machine = ? AND measured IS NOT NULL"
            )
            for kernel, schedule, seconds in file.execute(query, (self._machine,)):
                if not (isinstance(kernel, bytes) and isinstance(schedule, str) and seconds > 0):
                    raise ValueError("a row of the table of candidates is not one")
                found.setdefault(kernel, {})[schedule] = float(seconds)
        return found

    @contextmanager
    def _writing(self, path: Path) -> Iterator[sqlite3.Connection]:
        """One transaction, all of it or nothing."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with closing(sqlite3.connect(path, timeout=_WAIT_SECONDS)) as file:
            _format(file)
            file.executescript(_TABLES)
            with file:
                file.execute(f"PRAGMA user_version = {FORMAT}")
                machine = (self._machine, self._cpu)
                file.execute("INSERT OR IGNORE INTO machine VALUES (?, ?)", machine)
                yield file

    def _give_up(self, error: Exception) -> None:
        path, self.path = self.path, None
        warnings.warn(
            f"{path} cannot be used, measured times are not kept ({error}); remove it, or name "
            "another one with BRIM_TUNED",
            RuntimeWarning,
            stacklevel=3,
        )


def _format(file: sqlite3.Connection) -> int:
    """The format of a file, 0 of an empty one. Raises sqlite3.DatabaseError for a newer one."""
    (version,) = file.execute("PRAGMA user_version").fetchone()
    if version not in (0, FORMAT):
        raise sqlite3.DatabaseError(f"its format is {version}, this brim knows {FORMAT}")
    return int(version)


def _digest(kernel: str) -> bytes:
    return hashlib.sha256(kernel.encode()).digest()
