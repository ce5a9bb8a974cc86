"""Statements on PostgreSQL, MySQL, SQLite and Redis, over pooled connections."""
