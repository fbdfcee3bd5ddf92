"""The tables, version by version. Each step takes a database one version forward."""

from __future__ import annotations

APPLICATION_ID = 0x6D656D74
"""``memt``: tells a store from other people's databases."""

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (  # 1: sessions, and the log that they are read back from
        """CREATE TABLE sessions (
            key INTEGER PRIMARY KEY,
            id BLOB NOT NULL,
            revision INTEGER NOT NULL,
            hash BLOB NOT NULL
        )""",
        """CREATE TABLE log (
            seq INTEGER PRIMARY KEY,
            session INTEGER NOT NULL,
            revision INTEGER NOT NULL,
            place INTEGER NOT NULL,
            payload BLOB NOT NULL,
            hash BLOB NOT NULL
        )""",
        "CREATE UNIQUE INDEX log_order ON log (session, revision, place)",
    ),
    (  # 2: the run log
        """CREATE TABLE runs (
            seq INTEGER PRIMARY KEY,
            session INTEGER NOT NULL,
            run INTEGER NOT NULL,
            kind TEXT NOT NULL,
            agent TEXT,
            started_at REAL NOT NULL,
            duration_s REAL NOT NULL,
            error TEXT,
            token_budget INTEGER NOT NULL,
            working_memory_before INTEGER NOT NULL,
            long_term_memory_before INTEGER NOT NULL,
            cache_before INTEGER NOT NULL,
            agent_states_before INTEGER NOT NULL,
            conversation_history_before INTEGER NOT NULL,
            working_memory_after INTEGER NOT NULL,
            long_term_memory_after INTEGER NOT NULL,
            cache_after INTEGER NOT NULL,
            agent_states_after INTEGER NOT NULL,
            conversation_history_after INTEGER NOT NULL,
            actions TEXT NOT NULL,
            hash BLOB NOT NULL
        )""",
        "CREATE INDEX runs_of ON runs (session)",
    ),
    (  # 3: what is indexed of a session; the words themselves come with the first search
        """CREATE TABLE recalls (
            number INTEGER PRIMARY KEY,
            session INTEGER NOT NULL UNIQUE,
            mark BLOB NOT NULL
        )""",
        """CREATE TABLE passages (
            seq INTEGER PRIMARY KEY,
            recall INTEGER NOT NULL,
            item TEXT NOT NULL,
            created_at REAL NOT NULL,
            start INTEGER NOT NULL,
            stop INTEGER NOT NULL
        )""",
        "CREATE INDEX passages_of ON passages (recall, item)",
    ),
    (  # 4: what is put away of a session, and what is known of it besides its log
        "ALTER TABLE sessions ADD COLUMN used_at REAL",  # when it was last: seconds since the epoch
        "ALTER TABLE sessions ADD COLUMN archived_at REAL",  # NULL: its rows are in the log
        "ALTER TABLE sessions ADD COLUMN cold TEXT",  # where copies of its chunks may be
        "ALTER TABLE sessions ADD COLUMN tags TEXT NOT NULL DEFAULT '[]'",  # a JSON list of texts
        "ALTER TABLE sessions ADD COLUMN pinned INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE sessions ADD COLUMN reviewed_at INTEGER",  # nanoseconds since the epoch
        # Nobody knows when: they are idle from now on.
        "UPDATE sessions SET used_at = (julianday('now') - 2440587.5) * 86400.0",
        """CREATE TABLE chunks (
            session INTEGER NOT NULL,
            number INTEGER NOT NULL,
            rows INTEGER NOT NULL,
            raw_bytes INTEGER NOT NULL,
            packed_bytes INTEGER NOT NULL,
            payload BLOB,
            hash BLOB NOT NULL,
            PRIMARY KEY (session, number)
        )""",  # payload NULL: it is where `cold` says
    ),
)
"""Never changed, only added to: a store of every older version must still open."""

VERSION = len(MIGRATIONS)
