"""Outputs: what a program wrote becomes data of a declared shape, and success or failure."""
