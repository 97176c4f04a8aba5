"""Hostile input of six kinds, made up by Hypothesis: whatever comes in, there is a value or an error of ours.

python -m tests.fuzz --target lists --seconds 3600
"""

from . import archives, lists, networks, pickles, runs, texts

TARGETS = {each.name: each for each in (pickles.TARGET, lists.TARGET, archives.TARGET, networks.TARGET, runs.TARGET)}
TARGETS[texts.TARGET.name] = texts.TARGET
