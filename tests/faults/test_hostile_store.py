"""Stores that somebody prepared: any bytes in any column, with and without hashes that fit."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from math import inf, nan
from pathlib import Path
from typing import Any

import msgspec
import pytest
from child import LETTERS, step
from faults import GROWTH_MB, Story, many, read

from memtrace import Session, checkpoint
from memtrace.stores.rows import START, chained

TABLES = {
    "sessions": ["key", "id", "revision", "hash"],
    "log": ["seq", "session", "revision", "place", "payload", "hash"],
    "runs": "session run kind agent started_at duration_s error token_budget cache_before "
    "agent_states_after actions hash".split(),
}

VALUES: list[Any] = [
    "text",
    "",
    b"",
    b"\xff\xfe\x00",
    "'; DROP TABLE log; --",
    "[" * 100_000,
    '[{"action": 1}]',
    -1,
    0,
    2**63 - 1,
    -(2**63),
    1.5,
    inf,
    b"\0" * 1_000_000,
    None,
]

COLUMNS = [(table, column) for table, columns in TABLES.items() for column in columns]


@pytest.mark.parametrize("story", ["closed"], indirect=True)
@pytest.mark.parametrize(("table", "column"), COLUMNS)
def test_no_column_is_believed(
    nursery: Any, story: Story, tmp_path: Path, table: str, column: str
) -> None:
    """
    Whatever stands in a column of the newest or of the oldest row: what is read is right, or
    older and said to be, or a typed error; and neither time nor memory goes.
    """
    tried = 0
    few = random.Random(f"{table}.{column}").sample(VALUES, many(len(VALUES), 2))
    for value in few:
        for which in ("min", "max"):
            copy = story.copy(tmp_path / "copy")
            with closing(sqlite3.connect(copy / "m.db")) as database:
                try:
                    database.execute(
                        f"UPDATE {table} SET {column} = ?"
                        f" WHERE rowid = (SELECT {which}(rowid) FROM {table})",
                        (value,),
                    )
                except sqlite3.IntegrityError:
                    continue  # this column takes none such
                database.commit()
            try:
                # Rows of the run log that are somebody else's now are found by verify alone.
                read(nursery, story, copy, cut=False, fewer_runs=column == "session")
            except AssertionError as error:
                raise AssertionError(f"{which} {table}.{column} = {value!r:.50}: {error}") from None
            tried += 1
    print(f"{table}.{column}: {tried} values")


# --- rows whose hashes fit ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one session of three snapshots."""
    path = tmp_path_factory.mktemp("small") / "m.db"
    session = Session.open("a", store=path, counter=LETTERS)
    for number in (1, 2, 3):
        step(session, number)
        with checkpoint(session, f"step {number}"):
            pass
    session.journal.store.close()
    return path


def forge(path: Path, payload: bytes, place: int, revision: int = 2) -> None:
    """Put a payload in a row, and make every hash after it fit."""
    with closing(sqlite3.connect(path)) as database:
        database.execute(
            "UPDATE log SET payload = ? WHERE revision = ? AND place = ?",
            (payload, revision, place),
        )
        root = START
        rows = database.execute(
            "SELECT seq, place, payload FROM log ORDER BY revision, place = 0, place"
        ).fetchall()
        for seq, at, held in rows:
            if at:
                root = digest = chained(root, held)
            else:
                try:
                    head = msgspec.msgpack.decode(held)
                    head[6] = root
                    held = msgspec.msgpack.encode(head)
                except (ValueError, TypeError, RecursionError):
                    pass  # a head that is a bomb itself
                digest = chained(root, held)
            database.execute(
                "UPDATE log SET payload = ?, hash = ? WHERE seq = ?", (held, digest, seq)
            )
        database.commit()


def survives(nursery: Any, path: Path) -> None:
    """Every outcome is a value or a typed error, in bounded time and memory."""
    said = nursery.run(
        "read_all", store=str(path), names=["a"], originals={"a": ["m1", "m2", "m9", "x"]}
    )
    wrong = [str(part) for part in said if "untyped" in str(part)]
    assert not wrong, wrong[0].replace("\\n", "\n")
    assert said[-1]["grown_mb"] < GROWTH_MB


BOMBS: dict[str, bytes] = {
    "array of 2**32": b"\xdd\xff\xff\xff\xff",
    "mapping of 2**32": b"\xdf\xff\xff\xff\xff",
    "text of 2**32": b"\xdb\xff\xff\xff\xff",
    "bytes of 2**31": b"\xc6\x80\x00\x00\x00",
    "extension of 2**32": b"\xc9\xff\xff\xff\xff\x05",
    "deep arrays": b"\x91" * 100_000 + b"\xc0",
    "deep mappings": b"\x81\xa1a" * 100_000 + b"\xc0",
    "deep and wide": b"\xdd\x7f\xff\xff\xff" * 1000,
    "unknown extension": b"\xc7\x04\x05abcd",
    "pickle in an extension": b"\xc7\x0c\x05cos\nsystem\n\x85",
    "bad text in an extension": b"\xc7\x02\x01\xff\xff",
    "a huge number": b"\xc8\xff\xff\x02" + b"\x7f" * 65_535,
    "a time out of range": b"\xc7\x0c\xff" + b"\xff" * 12,
    "nothing": b"",
    "no msgpack": b"\xc1" * 100,
    "text that is no text": b"\xa4\xff\xff\xff\xff",
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_in_a_row_harms_nothing(
    nursery: Any, small: Path, tmp_path: Path, bomb: str
) -> None:
    """
    Bytes that claim gigabytes, nest a hundred thousand deep or are of foreign types, as a whole
    row, as an item's content, as a key, and as a head, with hashes that fit: no harm is done.
    """
    data = BOMBS[bomb]
    encode = msgspec.msgpack.encode
    raw = msgspec.Raw(data)
    item = ["m2", "user", raw, 5, False, 0, 1.0, 1.0, None, None, None, [], None]
    forms = [
        (data, 1),
        (data, 0),
        (encode(["push", 4, 0, None, item]), 1),
        (encode(["put", 2, 0, raw, item]), 1),
        (encode(["state", 3, 0, "counter", None, raw]), 1),
        (encode(["s9", raw, 1.0, 1, 1, 4, START, {"ids": raw}]), 0),
    ]
    for number, (payload, place) in enumerate(forms):
        path = tmp_path / f"{number}.db"
        path.write_bytes(small.read_bytes())
        forge(path, payload, place)
        survives(nursery, path)


def item(**changed: Any) -> list[Any]:
    """An item as it is stored."""
    fields: dict[str, Any] = {
        "id": "m9",
        "kind": "user",
        "content": {"role": "user", "content": "forged"},
        "tokens": 5,
        "pinned": False,
        "priority": 0,
        "created_at": 1.0,
        "last_used_at": 1.0,
        "expires_at": None,
        "agent": None,
        "run_id": None,
        "derived_from": [],
        "key": None,
    }
    return list({**fields, **changed}.values())


ROWS: dict[str, list[Any]] = {
    "unknown operation": ["explode", 4],
    "unknown layer": ["push", 99, 0, None, item()],
    "negative layer": ["push", -3, 0, None, item()],
    "huge layer": ["push", 2**63, 0, None, item()],
    "steps that are none": ["explode", -1, 0, "name", None, b""],
    "steps at infinity": ["begin", -1, 0, "name", None, inf],
    "steps at nothing": ["begin", -1, 0, "name", None, nan],
    "a step of a terabyte": ["done", -1, 0, "name", None, 2**40],
    "a step of text": ["done", -1, 0, "name", None, "text"],
    "steps under no name": ["begin", -1, 0, {"a": 1}, None, 0],
    "steps in a huge revision": ["begin", -1, 2**62, "name", None, 0],
    "back to itself": ["goto", 0, 2],
    "back to what comes": ["goto", 0, 2**62],
    "back to before": ["goto", 0, -1],
    "a place that is none": ["cut", 4, 10**9],
    "a negative place": ["pop", 4, -1],
    "the end as a place": ["swap", 4, 2, None, item()],
    "show beyond the end": ["show", 4, 3, None, item()],
    "push of nothing": ["push", 4],
    "history told to add": ["add", 4, 0, None, item()],
    "a key in a key": ["put", 2, 0, {"a": []}, item(), 1.0],
    "a life of infinity": ["put", 2, 0, "k", item(expires_at=inf), inf],
    "a life of a huge number": ["put", 2, 0, "k", item(), 2**63],
    "a life of a mapping": ["put", 2, 0, "k", item(), {}],
    "an end that is no number": ["put", 2, 0, "k", item(expires_at=nan), nan],
    "negative tokens": ["push", 4, 0, None, item(tokens=-(2**62))],
    "huge tokens": ["push", 4, 0, None, item(tokens=2**63 - 1)],
    "huge tokens in the cache": ["put", 2, 0, "k", item(tokens=-(2**62))],
    "a state for nobody": ["state", 3, 0, None, None, {}],
    "a state for a mapping": ["state", 3, 0, {"a": 1}, None, {}],
    "nobody leaves": ["leave", 3, 0, "nobody"],
    "a list leaves": ["leave", 3, 0, ["a"]],
    "touch what is not there": ["touch", 0, 0, "x", None, [1.0, None]],
    "touch at a huge time": ["touch", 0, 0, "c2", None, [2**63, None]],
    "touch with one": ["touch", 0, 0, "c2", None, [1.0]],
    "touch with text": ["touch", 0, 0, "c2", None, "ab"],
    "touch with nothing": ["touch", 0, 0, "c2", None, None],
    "touch a list": ["touch", 0, 0, ["c2"], None, [1.0, None]],
    "remove a mapping": ["remove", 0, 0, {}],
    "a key that is a list": ["add", 0, 0, None, item(key=["a"])],
    "a key that is a mapping": ["add", 0, 0, None, item(key={"a": 1})],
    "content that is nothing": ["push", 4, 0, None, item(content=None)],
    "content deep inside": ["push", 4, 0, None, item(content={"content": [[[[[1]]]]]})],
    "times that are none": ["push", 4, 0, None, item(created_at=nan, last_used_at=inf)],
    "standing for itself": ["push", 4, 0, None, item(derived_from=["m9"])],
    "standing for itself twice": ["push", 4, 0, None, item(derived_from=["m9", "m9"])],
    "standing for nothing": ["push", 4, 0, None, item(derived_from=["x"])],
    "an item of a known id": ["push", 4, 0, None, item(id="m1")],
    "an owner that is a list": ["push", 4, 0, None, item(agent=["a"])],
    "a run of a huge number": ["push", 4, 0, None, item(run_id=2**63 - 1)],
}

HEADS: dict[str, Callable[[list[Any]], None]] = {
    "ids at infinity": lambda head: head[7].update(ids=inf),
    "ids of text": lambda head: head[7].update(ids="text"),
    "ids of a list": lambda head: head[7].update(ids=[]),
    "huge ids": lambda head: head[7].update(ids=2**64 - 1),
    "runs of a mapping": lambda head: head[7].update(runs={}),
    "huge runs": lambda head: head[7].update(runs=2**64 - 1),
    "cleanups at nothing": lambda head: head[7].update(cleanups=nan),
    "no facts": lambda head: head[7].clear(),
    "a budget of nothing": lambda head: head[7].update(budget=[]),
    "a budget of text": lambda head: head[7].update(budget="abcdef"),
    "a negative budget": lambda head: head[7].update(budget=[-1, 0.1, 0.1, 0.1, 0.1, 0.1]),
    "a huge budget": lambda head: head[7].update(budget=[2**64 - 1, 0.1, 0.1, 0.1, 0.1, 0.1]),
    "shares that are none": lambda head: head[7].update(budget=[1000, nan, nan, nan, nan, nan]),
    "a budget of mappings": lambda head: head[7].update(budget=[{}, {}, {}, {}, {}, {}]),
    "the end of time": lambda head: head.__setitem__(2, inf),
    "no time": lambda head: head.__setitem__(2, nan),
    "far away": lambda head: head.__setitem__(2, 1e300),
    "a name of a mapping": lambda head: head.__setitem__(1, {"a": [1]}),
    "huge tokens": lambda head: head.__setitem__(3, 2**64 - 1),
    "rows that are not there": lambda head: head.__setitem__(5, 2**62),
    "an id of another": lambda head: head.__setitem__(0, "s4"),
}


@pytest.mark.parametrize("row", ROWS)
def test_a_change_that_makes_no_sense_is_a_typed_error_or_a_value(
    nursery: Any, small: Path, tmp_path: Path, row: str
) -> None:
    """A row whose hash fits, but that no memtrace wrote: no other error, no harm."""
    path = tmp_path / "m.db"
    path.write_bytes(small.read_bytes())
    forge(path, msgspec.msgpack.encode(ROWS[row]), place=1)
    survives(nursery, path)


@pytest.mark.parametrize("head", HEADS)
def test_a_head_that_makes_no_sense_is_a_typed_error_or_a_value(
    nursery: Any, small: Path, tmp_path: Path, head: str
) -> None:
    """A snapshot's head whose hash fits, but that no memtrace wrote: no other error, no harm."""
    path = tmp_path / "m.db"
    path.write_bytes(small.read_bytes())
    with closing(sqlite3.connect(path)) as database:
        ((held,),) = database.execute("SELECT payload FROM log WHERE revision = 3 AND place = 0")
    fields = msgspec.msgpack.decode(held)
    HEADS[head](fields)
    forge(path, msgspec.msgpack.encode(fields), place=0, revision=3)
    survives(nursery, path)


def test_items_that_stand_for_each_other_do_not_multiply(
    nursery: Any, small: Path, tmp_path: Path
) -> None:
    """Forty items of which each stands twice for the next: 2**40 originals are not looked up."""
    path = tmp_path / "m.db"
    path.write_bytes(small.read_bytes())
    with closing(sqlite3.connect(path)) as database:
        ((most,),) = database.execute("SELECT max(place) FROM log WHERE revision = 2")
        for number in range(40):
            later = f"m{number + 101}" if number < 39 else "m1"
            name = f"m{number + 100}" if number else "m9"
            payload = msgspec.msgpack.encode(
                ["push", 4, 0, None, item(id=name, derived_from=[later, later])]
            )
            database.execute(
                "INSERT INTO log (session, revision, place, payload, hash)"
                " SELECT session, 2, ?, ?, x'' FROM log LIMIT 1",
                (most + 1 + number, payload),
            )
        ((held,),) = database.execute("SELECT payload FROM log WHERE revision = 2 AND place = 0")
        database.commit()
    fields = msgspec.msgpack.decode(held)
    fields[5] += 40
    forge(path, msgspec.msgpack.encode(fields), place=0)
    survives(nursery, path)


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER t AFTER INSERT ON log BEGIN DELETE FROM sessions; END",
        "ALTER TABLE runs RENAME TO r; CREATE VIEW runs AS SELECT * FROM r, r, r, r, r",
        "ALTER TABLE log RENAME TO l; CREATE VIEW log AS SELECT * FROM l",
        "DROP TABLE log",
        "DROP TABLE runs",
        "DROP TABLE sessions",
        "DROP INDEX log_order",
        "DROP INDEX runs_of",
        "ALTER TABLE log DROP COLUMN seq2",
        "ALTER TABLE log ADD COLUMN more TEXT DEFAULT (randomblob(100000000))",
    ],
)
def test_a_schema_that_is_not_ours_is_refused_or_read(
    nursery: Any, small: Path, tmp_path: Path, statement: str
) -> None:
    """Tables that are gone, or that are views, and triggers that would run: no harm."""
    path = tmp_path / "m.db"
    path.write_bytes(small.read_bytes())
    # Not all of these are what every SQLite can do.
    with closing(sqlite3.connect(path)) as database, suppress(sqlite3.OperationalError):
        database.executescript(statement)
    survives(nursery, path)
