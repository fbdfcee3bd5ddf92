"""``python -m memtrace.cli``: the ``memtrace`` command."""

from . import main

if __name__ == "__main__":
    main()
