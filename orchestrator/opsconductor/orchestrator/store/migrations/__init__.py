"""Migration scripts, run by ``store.migrate``; a new one extends the last and never changes it."""
