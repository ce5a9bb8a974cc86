"""Commands on the agent's own host; those of changes outlive the agent under a supervisor."""
