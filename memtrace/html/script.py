"""The page's scripts: the charting library, as its package carries it, and a few lines of ours."""

from __future__ import annotations

import base64
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import NamedTuple

from ..errors import ConfigurationError


class Scripts(NamedTuple):
    """What the page runs, and the hashes by which its policy allows that and nothing else.

    Args:
        library: The charting library.
        ours: What draws the charts with it.
        allowed: Sources for the page's ``script-src``.
    """

    library: str
    ours: str
    allowed: str


@cache
def scripts() -> Scripts:
    """The scripts. The first call in a process takes about two seconds: the library is bundled.

    Raises:
        ConfigurationError: The charting library is not installed.
    """
    try:
        from vl_convert import javascript_bundle
    except ImportError as error:
        raise ConfigurationError(
            f"a report needs {error.name}, which is not installed: "
            'pip install "memtrace-otel[report]"'
        ) from None
    library = _inline(javascript_bundle(None))  # type: ignore[arg-type]  # it may be None
    ours = _inline(part("report.js"))
    return Scripts(library, ours, f"{_source(library)} {_source(ours)}")


def part(name: str) -> str:
    """A file that the page is made of."""
    return (files(__package__) / "templates" / name).read_text("utf-8")


def _inline(script: str) -> str:
    """A script that can stand in a page: nothing in it ends it, and no line end is changed."""
    script = script.replace("\r\n", "\n").replace("\r", "\n")
    return script.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _source(script: str) -> str:
    return f"'sha256-{base64.b64encode(sha256(script.encode()).digest()).decode()}'"
