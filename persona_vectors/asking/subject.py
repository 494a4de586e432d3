"""The model that is asked, and how: its engine, and the settings of generation.

Knows engines; what is asked is the sheets' business.
"""

from dataclasses import dataclass

from persona_vectors.engines import Engine, Sampling, choose_backend, open_engine
from persona_vectors.errors import UserError
from persona_vectors.models.loading import ModelPath, Shape


@dataclass(frozen=True)
class EngineSettings:
    """Which engine, and its own options.

    Attributes:
        backend: auto, hf or vllm.
        batch_size: sequences per batch of hf.
        vllm_options: arguments of vLLM's engine.
    """

    backend: str
    batch_size: int
    vllm_options: dict

    def choose(self, path: ModelPath) -> "EngineSettings":
        """The engine that ``auto`` means here for this model; refuses what it cannot use. Cheap."""
        backend = choose_backend(self.backend, path.load_in_4bit)
        if backend == "hf" and self.vllm_options:
            name = next(iter(self.vllm_options))
            raise UserError(f"{name} is vLLM's, and the backend is hf; leave it out, or choose the backend vllm")
        return EngineSettings(backend, self.batch_size, self.vllm_options)

    def open(self, path: ModelPath, dtype: str, trust_remote_code: bool, longest: int, ablations: int = 0) -> Engine:
        """Load the model into the chosen engine, for sequences of at most ``longest`` tokens.

        Args:
            ablations: directions that a request may ablate at one layer.
        """
        options = {"max_model_len": longest, "ablations": ablations, **self.vllm_options}
        options = {"batch_size": self.batch_size} if self.backend == "hf" else options
        return open_engine(self.backend, path, dtype, trust_remote_code, **options)


@dataclass(frozen=True)
class Generation:
    """The settings of generation, which answers depend on.

    Attributes:
        max_tokens: longest answer, in tokens.
        n_per_question: answers per question and instruction; 1 is greedy, more are drawn at temperature 1.
        seed: the same seed draws the same answers.
        enable_thinking: let models that can think do so.
        dtype: auto, float32, bfloat16 or float16.
    """

    max_tokens: int
    n_per_question: int
    seed: int
    enable_thinking: bool
    dtype: str

    @property
    def sampling(self) -> Sampling:
        return Sampling(self.max_tokens, temperature=0.0 if self.n_per_question == 1 else 1.0)


@dataclass(frozen=True)
class Subject:
    """The model under study: where it is, what it is like, the engine that runs it, and how it generates."""

    path: ModelPath
    shape: Shape
    engine: EngineSettings
    generation: Generation
    trust_remote_code: bool = False
