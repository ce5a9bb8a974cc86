"""Checks of tool definitions beyond their schema."""
