"""Commands on hosts over SSH: pooled connections, jump hosts, host keys, proven ends."""
