"""What links to a file of the project that is not in the documentation is told by its path.

The documents are read in the project as well, where such a link leads somewhere.
"""

from __future__ import annotations

import re
from typing import Any

_OUTSIDE = re.compile(r"\[([^\]]+)\]\((?:\.\./)+([^)\s]+)\)")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The page, with ``[text](../examples/a.py)`` as text and path."""
    return _OUTSIDE.sub(_told, markdown)


def _told(link: re.Match[str]) -> str:
    text, path = link.groups()
    return f"`{path}`" if text.strip("`") == path else f"{text} (`{path}`)"
