"""What model calls carry, seen from outside: the clients an application has installed are watched.

Nothing that is sent is changed. A call is observed where its request goes through, whichever
method or framework made it: in ``request`` of the ``openai`` and ``anthropic`` clients, and in
``generate_content`` of ``google.genai``. What it carried is told on the span of the model call
that is current, or on one of memtrace's own.

    from memtrace.observing import install, uninstall

    install()       # now, and for clients that are imported later
    ...
    uninstall()     # everything is as it was

`relay` is what stands on the application's path. It holds no logic: whatever else fails here, the
application's own call is made once, with what the application gave, and its answer comes back.
"""

from __future__ import annotations

from .calls import listening
from .clients import install, uninstall
from .facts import Observation, Usage

__all__ = ["Observation", "Usage", "install", "listening", "uninstall"]
