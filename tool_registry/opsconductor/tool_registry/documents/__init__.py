"""Documents: strict readers of YAML and JSON that tell every mistake with its place."""
