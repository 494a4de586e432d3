"""The toy world: a small language with personas, a model trained on it, and a judge that knows its grammar.

It is a wind tunnel: every stage of the toolkit runs on it, on any machine and offline, with known right answers.
Results on it say nothing about real models.
"""
