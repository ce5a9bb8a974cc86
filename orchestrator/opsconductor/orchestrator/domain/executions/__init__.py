"""Executions: the state folded from events, and what happens next."""
