"""Several worker processes on one PostgreSQL, any worker taking any session."""
