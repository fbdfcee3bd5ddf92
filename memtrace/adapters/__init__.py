"""Frameworks and clients, each one file, and none imported until it is asked for.

    from memtrace.adapters.openai import managed

Every adapter gives the whole of memtrace: memory is measured before and after a run, the loop acts
on what a model is sent, and spans and metrics tell of it.
"""
