"""Rendering: a tool and inputs become a call in which values stay data."""
