"""Spans, metrics and events, through the OpenTelemetry API alone.

Reads totals through a protocol (:class:`~memtrace.telemetry.ledger.Totals`); knows no session.
"""
