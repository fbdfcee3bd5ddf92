"""The report: one HTML file that opens offline, with what memory did and what it holds."""

from .facts import Report
from .gathering import of_session
from .page import render
from .playing import of_recording

__all__ = ["Report", "of_recording", "of_session", "render"]
