"""Records that a stage gave up: how they are written, looked at and sent back to that stage."""
