"""Fuzzing without a build of its own: every parser, and a whole user agent, fed with mutations of what is legal.

`python -m tests.fuzz TARGET --seconds N` runs one target for as long as one likes; `test_fuzz.py` runs all of them for
a moment with a fixed seed. What runs is the shipped code.
"""
