"""Engines that generate answers: transformers (``hf``) and vLLM (``vllm``) behind one small interface."""

from persona_vectors.engines.base import Answer, Engine, Request, Sampling, request_seed
from persona_vectors.engines.choose import BACKENDS, choose_backend, open_engine

__all__ = ["BACKENDS", "Answer", "Engine", "Request", "Sampling", "choose_backend", "open_engine", "request_seed"]
