"""Runs a stage: reads its topics, handles records side by side, and commits outputs and offsets as one."""
