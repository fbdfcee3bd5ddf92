"""What is kept for how long: rules, a dry run, letting go, and the review every 90 days."""

from .applying import (
    RetentionPlan,
    RetentionReport,
    choose,
    delete_sessions,
    opened_store,
    pin_session,
    retention,
)
from .reviews import follow_reviews, reviewed, reviews_due
from .rules import KINDS, Going, RetentionRules, Stayed

__all__ = [
    "KINDS",
    "Going",
    "RetentionPlan",
    "RetentionReport",
    "RetentionRules",
    "Stayed",
    "choose",
    "delete_sessions",
    "follow_reviews",
    "opened_store",
    "pin_session",
    "retention",
    "reviewed",
    "reviews_due",
]
