"""What a later output makes superfluous: equal ones, earlier reads, reads of what was edited."""

from __future__ import annotations

import re

from ..messages import Call
from .calls import signature, touches
from .draft import Draft, Eligible
from .outputs import may, outputs, whole
from .stubs import set_aside_output

SAME_OUTPUT = "same output as a later one"
SAME_CALL = "same call as a later one"
READ_AGAIN = "read again later"
EDITED = "edited since"

_FAILED = re.compile(r"\s*(?:<\w*error>|error\b|traceback \(most)", re.I)


def superseded(draft: Draft, eligible: Eligible) -> None:
    """Set aside outputs that a later one replaces: show the last of equal ones whole.

    A later result of the same call replaces the earlier; so does a later read of the whole of the
    same file, and any edit of the file makes an earlier read of it stale.
    """
    for place, reason in reversed(_found(draft)):
        if draft.relieved:
            return
        if whole(draft, place) and may(draft, place, eligible):
            set_aside_output(draft, place, reason)


def _found(draft: Draft) -> list[tuple[int, str]]:
    """Positions of what is superseded, and why; the last first."""
    later = _Later()
    found: list[tuple[int, str]] = []
    for place, calls in reversed(list(outputs(draft))):
        draft.breathe()
        item = draft.history[place]
        if item is None:
            continue
        # The original's text: a shorter form of an output still says what came of its call.
        text = draft.text(draft.source(item))
        reason = later.replaces(calls, text)
        if reason:
            found.append((place, reason))
        later.add(calls, text)
    return found


class _Later:
    """What is known of the outputs after a place."""

    def __init__(self) -> None:
        self._texts: set[str] = set()
        self._calls: set[tuple[str, str]] = set()
        self._read: set[str] = set()
        self._edited: set[str] = set()

    def replaces(self, calls: list[Call | None], text: str) -> str:
        """Why nothing is lost without an output; empty where something is."""
        if text in self._texts:
            return SAME_OUTPUT
        # Several results in one message give way together, so each must be told later.
        reasons = [self._call_replaced(call) if call is not None else "" for call in calls]
        return reasons[0] if reasons and all(reasons) else ""

    def _call_replaced(self, call: Call) -> str:
        if signature(call) in self._calls:
            return SAME_CALL
        reads = [touch for touch in touches(call) if not touch.edits]
        if not reads:
            return ""
        if all(touch.path in self._read for touch in reads):
            return READ_AGAIN
        return EDITED if all(touch.path in self._edited for touch in reads) else ""

    def add(self, calls: list[Call | None], text: str) -> None:
        """An output that comes after all that are asked about from here on."""
        self._texts.add(text)
        for call in calls:
            if call is None:
                continue
            self._calls.add(signature(call))
            for touch in touches(call):
                if touch.edits and not _FAILED.match(text):
                    self._edited.add(touch.path)
                elif touch.whole:
                    self._read.add(touch.path)
