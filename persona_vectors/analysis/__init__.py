"""What many results say together: correlations, screening and selection of training data."""
