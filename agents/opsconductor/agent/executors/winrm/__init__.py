"""Commands on Windows hosts over WS-Management."""
