"""`make demo`'s second half: the whole pipeline on one machine, with the small model as everybody."""
