"""The method: from pairs of answers to vectors, and from vectors to projections."""
