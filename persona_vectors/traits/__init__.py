"""What is asked: trait artifacts, graded prompts, and their checks."""
