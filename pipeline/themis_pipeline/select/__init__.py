"""Choosing what a judge is trained on, from the archive: `selection.select` with `selection.Settings`. What it rests on
can be used by itself: `ifd.difficulty`, `near_duplicates.components`, `outliers.pool_of`, `triggers.triggers`."""
