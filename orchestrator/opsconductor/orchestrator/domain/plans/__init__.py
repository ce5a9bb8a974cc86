"""Plans: a document becomes the exact bytes that are approved and run, or all its mistakes."""
