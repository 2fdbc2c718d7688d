"""`themis bench`: loads a live deployment with a stated shape, and says what it gave.

Reading order: shape.py (what is asked for), texts.py (what is sent), arrivals.py (when), load.py (by whom), log.py
(what came of it), summary.py (the arithmetic), then report.py, terminal.py and picture.py (how it is told), and
command.py, which puts them together.
"""
