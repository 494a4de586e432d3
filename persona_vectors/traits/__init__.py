"""Trait artifacts: what the model is asked, graded system prompts, and checks of both."""
