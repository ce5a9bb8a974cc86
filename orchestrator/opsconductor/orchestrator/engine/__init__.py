"""The engine: commits what the domain decides, then makes it happen."""
