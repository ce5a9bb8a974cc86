"""opsctl, the operator's hands: everything a person does with OpsConductor from a terminal."""
