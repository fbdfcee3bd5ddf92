"""Symptoms of one thing that takes more than its part: an item, an agent, a tool."""

from __future__ import annotations

from ..findings import Cause, Finding, Remedy
from ..values import Item
from . import remedies, settings
from .case import Case, total
from .found import finding
from .symptoms import GROUP_ABOVE, ITEM_ABOVE


def dominating_item(case: Case) -> Finding | None:
    """One item above a quarter of the budget."""
    measured = _largest(case)
    if measured <= ITEM_ABOVE:
        return None
    items = sorted(case.held, key=lambda item: -item.tokens)[:3]
    item = items[0]
    rest = case.share(items[1].tokens) if len(items) > 1 else 0.0
    share = min(case.policy.short_form_share, 0.5 * ITEM_ABOVE / measured)
    can: list[Remedy] = []
    if item.id in case.shortenable:
        text = f"show {_name(item)} in a shorter form; its original stays reachable"
        after = max(rest, measured * share)
        can.append(remedies.shorten(case.session, "shorten_item", text, {item.id}, after, share))
    elif item.pinned and item.kind not in ("system", "tools"):
        # Unpinned it is as large as it was: only then can it be shortened.
        can.append(settings.unpin(case.session, [item], measured))
    can.append(remedies.advice("give_parts", f"give the parts of {_name(item)} that a step needs"))
    return finding(
        case,
        "dominating_item",
        "warning",
        f"{_name(item)} alone holds {item.tokens:,} tokens, {measured:.0%} of the budget",
        measured,
        ITEM_ABOVE,
        {"tokens": item.tokens},
        tuple(Cause(_name(one), one.tokens, f"in {one.layer}") for one in items),
        can,
        _largest,
    )


def _largest(case: Case) -> float:
    return case.share(max((item.tokens for item in case.held), default=0))


def _name(item: Item) -> str:
    return item.key or f"{item.kind} {item.id}"


def dominating_agent(case: Case) -> Finding | None:
    """One of several agents above two fifths of the budget."""
    agents = case.by_agent
    if len(agents) < 2:
        return None
    name = max(agents, key=lambda agent: agents[agent])
    measured = case.share(agents[name])
    if measured <= GROUP_ABOVE:
        return None
    its = [i for i in case.held if i.agent == name]
    free = [item for item in its if item.id in case.shortenable]
    share = case.policy.short_form_share
    after = measured - (1 - share) * case.share(total(free))
    text = f"show shorter forms of what {name} brought, its contexts in long-term memory"
    ids = {item.id for item in free}
    return finding(
        case,
        "dominating_agent",
        "warning",
        f"agent {name} holds {agents[name]:,} tokens, {measured:.0%} of the budget",
        measured,
        GROUP_ABOVE,
        {"tokens": agents[name], "agents": len(agents)},
        tuple(
            Cause(agent, tokens, "contexts, messages and state")
            for agent, tokens in sorted(agents.items(), key=lambda told: -told[1])
        ),
        [
            remedies.shorten(case.session, "shorten_agent", text, ids, after, share / 2),
            remedies.advice("own_session", f"give {name} a session of its own"),
        ],
        lambda now: now.share(max(now.by_agent.values(), default=0)),
    )


def dominating_tool(case: Case) -> Finding | None:
    """The outputs of one of several tools above two fifths of the budget."""
    tools = {name: total(items) for name, items in case.by_tool.items()}
    if len(tools) < 2:
        return None
    name = max(tools, key=lambda tool: tools[tool])
    measured = case.share(tools[name])
    if measured <= GROUP_ABOVE:
        return None
    old = [item for item in case.by_tool[name][:-1] if item.id in case.shortenable]
    after = measured - case.share(total(old))
    text = f"show the names alone of all outputs of {name} but the last"
    ids = {item.id for item in old}
    return finding(
        case,
        "dominating_tool",
        "warning",
        f"outputs of {name} hold {tools[name]:,} tokens, {measured:.0%} of the budget",
        measured,
        GROUP_ABOVE,
        {"tokens": tools[name], "outputs": len(case.by_tool[name])},
        tuple(
            Cause(tool, tokens, f"{len(case.by_tool[tool])} outputs")
            for tool, tokens in sorted(tools.items(), key=lambda told: -told[1])
        ),
        [
            remedies.set_aside(case.session, "set_aside_outputs", text, ids, after),
            remedies.advice("ask_for_less", f"have {name} return less: a page, a match, a summary"),
        ],
        lambda now: now.share(max(map(total, now.by_tool.values()), default=0)),
    )
