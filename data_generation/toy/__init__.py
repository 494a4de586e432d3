"""The toy world: a small language with personas, a model that speaks it, and a judge that knows its grammar.

It is a wind tunnel. Every stage of the toolkit runs on it, on any machine and offline, with known right answers.
It says nothing about real models.
"""
