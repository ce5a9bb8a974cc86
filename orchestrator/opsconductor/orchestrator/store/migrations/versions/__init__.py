"""The migrations, by number; their sum is ``store.schema``, which the tests check."""
