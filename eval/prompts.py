"""The judge's prompts that belong to no trait, by their published names."""

from persona_vectors.judge.prompts import COHERENCE

Prompts = {"coherence_0_100": COHERENCE}
