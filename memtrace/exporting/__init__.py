"""What is kept, in files: all about one session or one user's tag; the run log for analysis."""

from .runs import export_runs
from .sessions import export_sessions

__all__ = ["export_runs", "export_sessions"]
