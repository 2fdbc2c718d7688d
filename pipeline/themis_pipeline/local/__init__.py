"""What a pipeline needs of other systems, started on this machine for tests and demonstrations."""
