"""Ids are ids: whatever text they are, they name one session, and nothing else is touched."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from child import LETTERS, number_of, step

from memtrace import Session, StoreError, checkpoint, managed_agent, verify
from memtrace.stores import open_store

IDS = [
    "plain",
    "a/b/c",
    "../../etc/passwd",
    "..",
    ".",
    "/",
    "C:\\Windows\\nul",
    "~root",
    "with 'quotes' and \"more\"",
    "'; DROP TABLE sessions; --",
    "' OR '1'='1",
    "%",
    "_",
    "*",
    "?synchronous=OFF",
    "nul\0in the middle",
    "\0",
    " ",
    "\n",
    "\r\n\t",
    "-rf",
    "--help",
    "🧠🧵👩\u200d👩\u200d👧",
    "e\u0301",  # the same letter in two forms: two ids
    "\u00e9",
    "ПЛАН",
    "план",
    "مرحبا",
    "\u202egnirts\u202c",
    "\ufeffbom",
    "lone \ud800",
    "\udfff",
    "\ud83d",
    "x" * 10_000,
    "x" * 10_001,
    "\ud800" * 10_000,
    "null",
    "None",
    "0",
    "1e5",
    "{}",
    "${HOME}",
    "$(touch /tmp/pwned)",
    "`touch /tmp/pwned`",
    ":memory:",
    "sqlite:///x.db",
    "memtrace.db",
    "a",
    "A",
    "a ",
]


def files(folder: Path) -> dict[str, str]:
    """Every file below a folder, with its hash."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_every_id_is_its_own_session_and_nothing_else(tmp_path: Path) -> None:
    """
    Sessions of every id keep what is theirs through a close, are listed under their ids, and no
    file is made but the store's own.
    """
    inside = tmp_path / "inside" / "the" / "store"
    inside.mkdir(parents=True)
    (tmp_path / "beside").write_text("untouched")
    before = files(tmp_path)
    held = open_store(inside / "m.db")
    for number, name in enumerate(IDS, 1):
        session = Session.open(name, store=held, counter=LETTERS)
        for count in range(1, number + 1):
            step(session, count)
        with checkpoint(session, name):
            pass
        session.close()
    assert sorted(held.sessions()) == sorted(IDS)
    for number, name in enumerate(IDS, 1):
        session = Session.open(name, store=held, counter=LETTERS)
        assert (session.id, number_of(session)) == (name, number)
        assert session.snapshots()[0].name == name
        assert session.original("m1")["content"].split()[0] == "1"
        assert [run.name for run in session.run_log()] == [name.encode("utf-8", "replace").decode()]
    found = verify(held)
    assert (found.ok, found.sessions) == (True, len(IDS))
    held.close()
    assert files(tmp_path) == {**before, "inside/the/store/m.db": files(inside)["m.db"]}
    assert not Path("/tmp/pwned").exists()
    print(f"{len(IDS)} ids")


@pytest.mark.parametrize("name", [name for name in IDS if len(name) < 100])
def test_a_branch_of_any_id_is_only_that(tmp_path: Path, name: str) -> None:
    """A branch and its origin keep apart whatever the ids are; an id that is taken is refused."""
    held = open_store(tmp_path / "m.db")
    origin = Session.open(f"{name}{name}", store=held, counter=LETTERS)
    step(origin, 1)
    branch = origin.branch(name)
    step(branch, 2)
    branch.close()
    origin.close()
    assert number_of(Session.open(name, store=held, counter=LETTERS)) == 2
    assert number_of(Session.open(f"{name}{name}", store=held, counter=LETTERS)) == 1
    with pytest.raises((StoreError, RuntimeError)):
        origin.branch(name)
    held.close()


@pytest.mark.parametrize("name", IDS[:-3], ids=range(len(IDS) - 3))
def test_names_of_every_kind_are_stored_as_they_are(tmp_path: Path, name: str) -> None:
    """The same texts as keys, agents', steps' and runs' names, and as contents: as they were."""
    held = open_store(tmp_path / "m.db")
    session = Session.open("a", store=held, counter=LETTERS)
    session.active_contexts.add(name, key=name, kind=name)
    session.cache.put(name, {name: name})
    session.cache.put((name, 1), name)
    session.agent(name).state = {name: [name]}
    session.history.append({"role": "user", "name": name, "content": name})

    @managed_agent(name=name)
    def agent(session: Session) -> None:
        session.active_contexts.touch(name)

    agent(session)
    with checkpoint(session, name):
        pass
    again = Session.open("a", store=held, counter=LETTERS)
    item = again.active_contexts.get(name)
    assert item is not None
    assert (item.content, item.key, item.kind) == (name, name, name)
    assert (again.cache.get(name), again.cache.get((name, 1))) == ({name: name}, name)
    assert again.agents[name].state == {name: [name]}
    assert again.history[0] == {"role": "user", "name": name, "content": name}
    assert again.snapshots()[-1].name == name
    assert verify(held).ok
    held.close()
