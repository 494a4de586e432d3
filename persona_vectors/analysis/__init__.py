"""Analyses over many results: correlations, and screening and selection of training data."""
