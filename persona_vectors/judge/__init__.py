"""Who scores: a model behind an OpenAI-compatible endpoint."""
