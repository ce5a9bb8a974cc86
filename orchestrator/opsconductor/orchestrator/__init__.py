"""The OpsConductor orchestrator."""
