"""Risk: what a rendered call may do, read from the call itself and never taken on trust."""
