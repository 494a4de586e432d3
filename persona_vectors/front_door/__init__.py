"""The library for a notebook: a model, pairs of questions and answers, tensors. ``import persona_vectors as pv`` has these names."""

from persona_vectors.front_door.judges import Judge, LikelihoodJudge, Scores
from persona_vectors.front_door.method import PersonaVectors, answer, find_vectors, load, project

__all__ = ["Judge", "LikelihoodJudge", "PersonaVectors", "Scores", "answer", "find_vectors", "load", "project"]
