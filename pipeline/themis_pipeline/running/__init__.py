"""Runs stages: puts each together from its settings, and keeps them going in one process until told to stop."""
