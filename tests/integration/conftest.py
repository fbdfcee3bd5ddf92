"""Sessions to replay."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


def _load(path: Path) -> ModuleType:
    """A module of the tests by its file: under importlib mode they cannot import each other."""
    spec = importlib.util.spec_from_file_location(f"memtrace_tests_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def sessions(root: Path) -> ModuleType:
    """The module that finds or generates recorded sessions."""
    return _load(root / "tests" / "sessions.py")


@pytest.fixture(scope="session")
def session_files(sessions: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Recorded sessions where MEMTRACE_SESSIONS is set, else generated ones."""
    files: list[Path] = sessions.session_files(tmp_path_factory.mktemp("sessions"))
    return files


@pytest.fixture(scope="session")
def generated_files(sessions: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Generated sessions, whatever the environment says."""
    files: list[Path] = sessions.generate(tmp_path_factory.mktemp("generated"))
    return files
