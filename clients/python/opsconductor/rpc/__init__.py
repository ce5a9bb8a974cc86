"""What both ends of the wire agree on: errors, digests, statements, identities and channels."""
