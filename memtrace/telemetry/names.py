"""Every name that leaves this process, in one place.

``gen_ai.*`` where the OpenTelemetry conventions for generative AI have a name
(https://opentelemetry.io/docs/specs/semconv/gen-ai/), ``memtrace.*`` otherwise. They are written
out here because the Python package of the conventions marks its own constants as moved and lacks
the newest.
"""

from __future__ import annotations

from ..values import LAYER_NAMES

SCOPE = "memtrace"
SCHEMA_URL = "https://opentelemetry.io/schemas/1.37.0"

# Attributes of the conventions.
OPERATION_NAME = "gen_ai.operation.name"
AGENT_ID = "gen_ai.agent.id"
AGENT_NAME = "gen_ai.agent.name"
AGENT_DESCRIPTION = "gen_ai.agent.description"
AGENT_VERSION = "gen_ai.agent.version"
CONVERSATION_ID = "gen_ai.conversation.id"
REQUEST_MODEL = "gen_ai.request.model"
ERROR_TYPE = "error.type"
INVOKE_AGENT = "invoke_agent"
INFERENCE = frozenset({"chat", "generate_content", "text_completion"})
SEARCH_MEMORY = "search_memory"
MEMORY_STORE = "gen_ai.memory.store.id"
"""Whose memory is searched: the session's id."""
MEMORY_COUNT = "gen_ai.memory.record.count"
MEMORY_QUERY = "gen_ai.memory.query.text"
MEMORY_RECORDS = "gen_ai.memory.records"
OPENINFERENCE_KIND = "openinference.span.kind"

# Attributes of memtrace.
BODY_DURATION = "memtrace.body.duration"
SESSION_CLEANUPS = "memtrace.session.cleanups"
BUDGET_TOKENS = "memtrace.budget.tokens"
BUDGET_OLD = "memtrace.budget.old"
"""Tokens before a change: of the whole, then of each layer in order."""
BUDGET_NEW = "memtrace.budget.new"
BUDGET_REASON = "memtrace.budget.reason"
FORECAST_TOKENS = "memtrace.forecast.turn.tokens"
FORECAST_TURNS = tuple(f"memtrace.forecast.turns_to_{share}" for share in (80, 90, 100))
FORECAST_LOW = tuple(f"memtrace.forecast.turns_to_{share}.low" for share in (80, 90, 100))
FORECAST_HIGH = tuple(f"memtrace.forecast.turns_to_{share}.high" for share in (80, 90, 100))
BUDGET_REMAINING = "memtrace.budget.remaining_tokens"
"""In baggage alone."""
BEFORE_TOKENS = "memtrace.profile.before.tokens"
BEFORE_UTILIZATION = "memtrace.profile.before.utilization"
AFTER_TOKENS = "memtrace.profile.after.tokens"
AFTER_UTILIZATION = "memtrace.profile.after.utilization"
DELTA_TOKENS = "memtrace.profile.delta.tokens"
LAYER_BEFORE = tuple(f"memtrace.layer.{name}.before.tokens" for name in LAYER_NAMES)
LAYER_AFTER = tuple(f"memtrace.layer.{name}.after.tokens" for name in LAYER_NAMES)
COUNTING = "memtrace.counting"
CHECKPOINT_NAME = "memtrace.checkpoint.name"
CHECKPOINT_ID = "memtrace.checkpoint.id"
CHECKPOINT_RESTORED = "memtrace.checkpoint.restored"
ACTION_OUTCOME = "memtrace.action.outcome"
ACTION_ITEMS = "memtrace.action.items"
ACTION_REASON = "memtrace.action.reason"
ACTION_TOKENS_BEFORE = "memtrace.action.tokens.before"
ACTION_TOKENS_AFTER = "memtrace.action.tokens.after"
ACTION_DECISION = "memtrace.action.decision"
"""Of a judged pass: ``chosen``, since it pays; ``forced``, by the budget; or ``declined``."""
ACTION_NET = "memtrace.action.net_tokens"
CACHE_SAVED = "memtrace.prompt_cache.saved_tokens"
"""By which each later prompt is shorter."""
CACHE_REREAD = "memtrace.prompt_cache.reread_tokens"
CACHE_CALLS = "memtrace.prompt_cache.expected_calls"
MOVED_TOKENS = "memtrace.moved.tokens"
CLEANUP_STRATEGY = "memtrace.cleanup.strategy"
CLEANUP_REMOVED_ITEMS = "memtrace.cleanup.removed.items"
CLEANUP_REMOVED_TOKENS = "memtrace.cleanup.removed.tokens"
COMPRESSION_INPUT = "memtrace.compression.input_tokens"
COMPRESSION_OUTPUT = "memtrace.compression.output_tokens"
COMPRESSION_RATIO = "memtrace.compression.ratio"
CONTEXT_TOKENS = "memtrace.context.tokens"
CONTEXT_LIMIT = "memtrace.context.limit"
SNAPSHOT_ID = "memtrace.snapshot.id"
SNAPSHOT_ITEMS = "memtrace.snapshot.items"
SNAPSHOT_TOKENS = "memtrace.snapshot.size"
PLAN_ACTIONS = "memtrace.plan.actions"
LAYER_NAME = "memtrace.layer.name"
CACHE_RESULT = "memtrace.cache.result"
COMPRESSION_STRATEGY = "memtrace.compression.strategy"
SUMMARY_OUTCOME = "memtrace.summary.outcome"
CLEANUP_REASON = "memtrace.cleanup.reason"
OPERATION = "memtrace.operation"
HOOK_NAME = "memtrace.hook.name"
HOOK_STAGE = "memtrace.hook.stage"
THRESHOLD_NAME = "memtrace.threshold.name"
THRESHOLD_VALUE = "memtrace.threshold.value"
THRESHOLD_OBSERVED = "memtrace.threshold.observed"
THRESHOLD_DIRECTION = "memtrace.threshold.direction"
THRESHOLD_SEVERITY = "memtrace.threshold.severity"
SCOPE_ATTRIBUTE = "memtrace.scope"
COMPONENT = "memtrace.component"

# Of a model call that was observed: what it carried, and what the provider said it billed. Usage is
# not told again under the convention's name: a backend would add it up twice.
CALL_CONVERSATION = "memtrace.call.conversation"
CALL_TURN = "memtrace.call.turn"
CALL_MESSAGES = "memtrace.call.messages"
CALL_TOKENS = "memtrace.call.tokens"
CALL_KINDS = {
    "system": "memtrace.call.system.tokens",
    "tools": "memtrace.call.tools.tokens",
    "user": "memtrace.call.user.tokens",
    "assistant": "memtrace.call.assistant.tokens",
    "tool_results": "memtrace.call.tool_results.tokens",
}
CALL_LAYERS = ("memtrace.layer.working_memory.tokens", "memtrace.layer.conversation_history.tokens")
CALL_DUPLICATE = "memtrace.call.duplicate.tokens"
CALL_REPEATED = "memtrace.call.repeated.tokens"
CALL_NEW = "memtrace.call.new.tokens"
CALL_GROWTH = "memtrace.call.growth.tokens"
CALL_PARTIAL = "memtrace.call.partial"
USAGE_INPUT = "memtrace.usage.input_tokens"
USAGE_CACHED = "memtrace.usage.cache_read.input_tokens"
USAGE_OUTPUT = "memtrace.usage.output_tokens"
USAGE_RATIO = "memtrace.usage.billed_ratio"

# Spans.
SPAN_CHECKPOINT = "memtrace.checkpoint"
SPAN_HOOK = "memtrace.hook"
SPAN_CLEANUP = "memtrace.cleanup"
SPAN_SNAPSHOT = "memtrace.snapshot"
SPAN_ARCHIVE = "memtrace.archive"
SPAN_ACTIONS = {
    "cleanup": SPAN_CLEANUP,
    "cleanup_expired": SPAN_CLEANUP,
    "compress": "memtrace.compress",
    "consolidate": "memtrace.consolidate",
    "update_cache": "memtrace.update_cache",
    "snapshot": SPAN_SNAPSHOT,
    "archive": SPAN_ARCHIVE,
}
"""By an action's name in its report."""
SPAN_OBSERVE = "memtrace.observe"

# Events.
EVENT_HOOK_FAILED = "memtrace.hook.failed"
EVENT_THRESHOLD_CROSSED = "memtrace.threshold.crossed"
EVENT_CLEANUP_COMPLETED = "memtrace.cleanup.completed"
EVENT_COMPRESSION_COMPLETED = "memtrace.compression.completed"
EVENT_SUMMARY = "memtrace.summary.completed"
EVENT_PLANNED = "memtrace.action.planned"
EVENT_BUDGET_CHANGED = "memtrace.budget.changed"
EVENT_FAILURE = "memtrace.failure"

# Instruments.
METRIC_DURATION = "gen_ai.invoke_agent.duration"
METRIC_USAGE = "memtrace.memory.usage"
METRIC_LIMIT = "memtrace.memory.limit"
METRIC_UTILIZATION = "memtrace.memory.utilization"
METRIC_SESSIONS = "memtrace.session.active"
METRIC_ADDED = "memtrace.layer.added"
METRIC_CACHE_REQUESTS = "memtrace.cache.requests"
METRIC_COMPRESSION_INPUT = "memtrace.compression.input_tokens"
METRIC_COMPRESSION_OUTPUT = "memtrace.compression.output_tokens"
METRIC_COMPRESSION_RATIO = "memtrace.compression.ratio"
METRIC_CLEANUPS = "memtrace.cleanups"
METRIC_CLEANUP_REMOVED = "memtrace.cleanup.removed_tokens"
METRIC_JUDGEMENTS = "memtrace.judgements"
METRIC_NET = "memtrace.action.net_tokens"
METRIC_REREAD = "memtrace.prompt_cache.reread_tokens"
METRIC_OPERATION_DURATION = "memtrace.operation.duration"
METRIC_HOOK_DURATION = "memtrace.hook.duration"
METRIC_ALERTS = "memtrace.alerts"
METRIC_FAILURES = "memtrace.failures"
METRIC_REVIEW_DUE = "memtrace.retention.review.due"

# Bucket boundaries: seconds as the conventions give them for agent invocations; fractions with a
# boundary at each threshold of the default policy.
BUCKETS_DURATION = tuple(0.1 * 2**i for i in range(13))
BUCKETS_UTILIZATION = (0.1, 0.25, 0.5, 0.7, 0.8, 0.85, 0.9, 0.95, 1.0, 1.25)
BUCKETS_RATIO = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
BUCKETS_SHORT = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
