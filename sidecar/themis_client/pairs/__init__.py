"""`themis label-pairs`: prompts with several responses become pairs that DPO trains on.

The judgements go into a journal (journal.py) in the order of the input, as they come (run.py); when all are there,
pairs are chosen from them (choice.py) and written at once (finish.py). So a run can be killed at any point and goes on
from there, and what it ends with depends on the input, the flags and the judge's version alone.
"""
