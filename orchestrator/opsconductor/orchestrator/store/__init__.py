"""The store: the event log, its projections and stored output, on SQLite or PostgreSQL."""
