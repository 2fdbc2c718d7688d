"""People's tasks and labels on their topics: what the stage `annotate` reads again, and `themis-pipeline annotate`."""
