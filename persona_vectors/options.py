"""Groups of flags that stages share, each with its text, its limits and its default in one place.

A stage's ``main`` has a parameter of such a class for each group; :mod:`persona_vectors.cli` makes a flag of every field. The
methods give what the library works with. A class that adds fields to another is for stages with more flags.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal

from persona_vectors import cli, models
from persona_vectors.errors import UserError
from persona_vectors.steering.intervention import POSITIONS
from persona_vectors.vectors.storage import KINDS

if TYPE_CHECKING:  # what methods import themselves: --help needs none of it
    from persona_vectors.asking.choose_judge import JudgeSettings
    from persona_vectors.asking.subject import EngineSettings, Generation
    from persona_vectors.judge.prices import Costs
    from persona_vectors.steering.sweep import Grid

Dtype = Literal[*models.DTYPES]
Kind = Literal[*KINDS]
Backend = Literal["auto", "hf", "vllm"]  # engines.BACKENDS, whose import takes longer than --help
Port = Annotated[int, cli.Between(0, 65535)]


@dataclass(frozen=True)
class ModelOptions:
    """How a model is loaded.

    Attributes:
        dtype: auto is bfloat16 on a GPU and float32 on a CPU.
        trust_remote_code: run code that comes with the model. Only for models whose code you have read.
        chat_template: what writes chats in the place of the model's own template: a Jinja file, or plain, for base models
            without one: System, User and Assistant as text.
        load_in_4bit: put the weights into 4 bits (NF4, by bitsandbytes): less memory, and slightly other numbers.
    """

    dtype: Dtype = "auto"
    trust_remote_code: bool = False
    chat_template: str | None = None
    load_in_4bit: Annotated[bool, cli.InFull] = False

    def resolve(self, name: str) -> models.ModelPath:
        """Find what ``name`` stands for, to be loaded as these options say; see :func:`persona_vectors.models.resolve`."""
        return models.resolve(name, load_in_4bit=self.load_in_4bit, chat_template=self.chat_template)


@dataclass(frozen=True)
class ReadingOptions(ModelOptions):
    """How activations are read from a model.

    Attributes:
        token_budget: padded tokens per batch of reading activations (8192 on a GPU, 512 on a CPU); lower it if memory runs
            out.
    """

    token_budget: cli.Count | None = None


@dataclass(frozen=True)
class GenerationOptions:
    """How answers are generated.

    Attributes:
        max_tokens: longest answer, in tokens.
        seed: of everything that is drawn; the same seed gives the same answers.
        enable_thinking: let models that can think do so; the reasoning is kept apart from the answer.
    """

    max_tokens: cli.Count = 1000
    seed: int = 0
    enable_thinking: bool = False


@dataclass(frozen=True)
class SamplingOptions(GenerationOptions):
    """How several answers to a question are generated.

    Attributes:
        n_per_question: answers per question and instruction or condition; 1 is greedy, more are drawn at temperature 1.
    """

    n_per_question: cli.Count = 10

    def with_dtype(self, dtype: str) -> "Generation":
        """All that answers depend on."""
        from persona_vectors.asking.subject import Generation

        return Generation(self.max_tokens, self.n_per_question, self.seed, self.enable_thinking, dtype)


@dataclass(frozen=True)
class EngineOptions:
    """Which engine answers, and its own settings.

    Attributes:
        backend: the engine: vLLM or transformers (hf); auto takes vLLM where it can run.
        batch_size: sequences per batch of the hf backend.
        tensor_parallel_size: vllm: GPUs that share each layer; by default as many as the model can be divided by.
        data_parallel_size: vllm: copies of the model, each on GPUs of its own; by default as many as GPUs are left for.
        gpu_memory_utilization: vllm: the part of each GPU's memory to use (0.9).
    """

    backend: Backend = "auto"
    batch_size: cli.Count = 64
    tensor_parallel_size: cli.Count | None = None
    data_parallel_size: cli.Count | None = None
    gpu_memory_utilization: float | None = None

    def __post_init__(self) -> None:
        part = self.gpu_memory_utilization
        if part is not None and not 0 < part <= 1:
            raise UserError(
                f"--gpu_memory_utilization is a part of the memory, more than 0 and at most 1, not {part:g}"
            )

    def settings(self, batch_size: int | None = None) -> "EngineSettings":
        """The engine, with another ``batch_size`` where one is given."""
        from persona_vectors.asking.subject import EngineSettings

        given = {name: value for name, value in vars(self).items() if value is not None}
        del given["backend"], given["batch_size"]
        return EngineSettings(self.backend, batch_size or self.batch_size, given)


@dataclass(frozen=True)
class ClusterOptions(EngineOptions):
    """The engine, on several machines as well.

    Attributes:
        pipeline_parallel_size: vllm: groups of GPUs that divide the layers among them (1).
        distributed_executor_backend: vllm: ray for several machines.
    """

    pipeline_parallel_size: cli.Count | None = None
    distributed_executor_backend: str | None = None


@dataclass(frozen=True)
class JudgeOptions:
    """Who scores answers.

    Attributes:
        judge_model: the judge, as its endpoint names it (OPENAI_BASE_URL, OPENAI_API_KEY; see .env.example); endpoint:model
            for another endpoint, such as openrouter:openai/gpt-4.1-mini. Several are separated by commas: the scores are
            their means, each judge's own go into columns <trait>_<judge> and coherence_<judge>. likelihood
            needs none: a model reads the answers under the artifact's instructions, and a column <trait>_llr is added.
            none: nothing is judged, the score columns stay empty.
        max_concurrent_judges: judge calls under way at a time, of each judge.
        scorer: likelihood: the model that reads the answers; by default the one that gives them, without adapter and
            unsteered.
        scorer_pairs: likelihood: instruction pairs that each answer is read under (2), none of them its own.
        coherence_prompt: file with a judge prompt for coherence of your own, with {answer} and perhaps {question}; none
            leaves coherence out, and half of the calls.
        no_cache: pay for every score; else one that was paid for before, by any run, comes from the cache of scores.
        judge_batch: score through the endpoint's batch API, at half the price and within a day: all answers are made
            first, then sent. The same command goes on waiting after a stop, and collects.
    """

    judge_model: str = "gpt-4.1-mini-2025-04-14"
    max_concurrent_judges: cli.Count = 100
    scorer: str | None = None
    scorer_pairs: cli.Count | None = None
    coherence_prompt: str | None = None
    no_cache: bool = False
    judge_batch: Annotated[bool, cli.InFull] = False

    def __post_init__(self) -> None:
        from persona_vectors.asking.choose_judge import LIKELIHOOD, UNJUDGED

        names = [name.strip() for name in self.judge_model.split(",")]
        if not all(names) or len(set(names)) < len(names):
            raise UserError(
                f"--judge_model takes a judge, or different ones separated by commas, not '{self.judge_model}'"
            )
        for word in (LIKELIHOOD, UNJUDGED):
            if near := next((name for name in names if name != word and name.lower() == word), None):
                raise UserError(f"--judge_model {near}: write {word} in small letters")
        if UNJUDGED in names and len(names) > 1:
            raise UserError(f"--judge_model {UNJUDGED} is nobody: it cannot be one of several judges")
        object.__setattr__(self, "judge_model", ",".join(names))
        if LIKELIHOOD in names and self.coherence_prompt is not None:
            raise UserError(f"--coherence_prompt goes with judges that read prompts; {LIKELIHOOD} asks none")
        for flag in ("scorer", "scorer_pairs"):
            if LIKELIHOOD not in names and getattr(self, flag) is not None:
                raise UserError(f"--{flag} goes with --judge_model {LIKELIHOOD}; the judge is {self.judge_model}")
        if self.judge_batch and self.judge_model in (LIKELIHOOD, UNJUDGED):
            raise UserError(f"--judge_batch goes with a judge behind an endpoint, not with {self.judge_model}")
        if self.judge_batch and len(names) > 1:
            raise UserError(f"--judge_batch goes with one judge, not with {', '.join(names)}: ask one after the other")

    def settings(self) -> "JudgeSettings":
        """The judge; a model that reads answers is looked for."""
        from persona_vectors.asking.choose_judge import LIKELIHOOD, JudgeSettings

        own = {} if self.coherence_prompt is None else {"coherence": self._coherence()}
        settings = JudgeSettings(
            self.judge_model, self.max_concurrent_judges, cached=not self.no_cache, batch=self.judge_batch, **own
        )
        if LIKELIHOOD not in settings.names:
            return settings
        from persona_vectors.likelihood.scores import PAIRS

        scorer = None if self.scorer is None else models.resolve(self.scorer)
        return replace(settings, scorer=scorer, pairs=self.scorer_pairs or PAIRS)

    def _coherence(self) -> str:
        """The prompt of ``coherence_prompt``; "" for none."""
        from persona_vectors.traits.artifact import load_judge_prompt

        return "" if self.coherence_prompt == "none" else load_judge_prompt(self.coherence_prompt)


NOT_GIVEN = (0.0,)  # --coef as it stands where nobody typed it; one that is typed is another object


@dataclass(frozen=True)
class SteeringOptions:
    """A grid of steerings: layers x coefficients.

    Attributes:
        coef: steering coefficient(s); 0 is unsteered.
        vector_path: vector file [layers+1, hidden] (.pt or .safetensors; file.pt:key is one of a dict of tensors); {trait}
            is filled in.
        layer: layer(s) to steer, 1..L: reads row l, acts on the output of block l-1. all: every layer at once, with
            incremental vectors.
        steering_type: which positions: response (last prompt token and generated ones), prompt, or all.
        controls: so many control vectors of the same norm that steer beside the trait's own; they add the column control.
        control: random directions, or shuffled: what generate_vec.py --shuffled made beside the vector file.
        steering: instead of vector_path, layer and steering_type a JSON list of {vector, layer, coef, positions, kind}, which
            act together; coef multiplies the list's own, by default once.
        dose: in the place of coef: the length(s) of the steering relative to the activations it is added to,
            coef * |v_l| / mean |h_l|, which mean the same on every model.
    """

    coef: cli.Distinct[float] = NOT_GIVEN
    vector_path: str | None = None
    layer: cli.Distinct[int | Literal["all"]] | None = None
    steering_type: Literal[*POSITIONS] = "response"
    controls: Annotated[int, cli.Between(0)] = 0
    control: Annotated[Literal["random", "shuffled"], cli.InFull] = "random"  # steering.controls.CONTROLS
    steering: Annotated[str | None, cli.InFull] = None
    dose: cli.Distinct[float] | None = None

    def grid(self) -> "Grid":
        """The grid; half a steering is refused."""
        if self.steering is not None:
            return self._listed()
        from persona_vectors.steering.sweep import Grid
        from persona_vectors.steering.vector_rows import ALL

        layers = sorted(self.layer or (), key=lambda layer: layer == ALL)  # as ever: "all" comes last
        return Grid.of(
            self.coef, layers, self.vector_path, self.steering_type, self.controls, self.control, self.dose or ()
        )

    def _listed(self) -> "Grid":
        """The grid of a steering list."""
        from persona_vectors.steering.steering_list import ListGrid

        if self.dose is not None:
            raise UserError(
                "--dose is of one vector: it cannot be given beside --steering, whose own coefficients --coef multiplies"
            )
        given = {"vector_path": self.vector_path, "layer": self.layer}
        given |= {} if self.steering_type == "response" else {"steering_type": self.steering_type}
        for flag in (name for name, value in given.items() if value is not None):
            raise UserError(f"--{flag} cannot be given beside --steering: the list says it for each vector")
        coefs = (1.0,) if self.coef is NOT_GIVEN else self.coef
        return ListGrid.read(self.steering, coefs, self.controls, self.control)


@dataclass(frozen=True)
class CostOptions:
    """What a run may cost, and what it would.

    Attributes:
        dry_run: print how many answers and calls are missing, their tokens, price and time, and stop: no model is loaded,
            nothing is asked.
        max_cost: dollars that calls to an endpoint may cost in this run: it does not begin if they would cost more, and
            stops before the call that would go beyond, with exit code 3; the same command goes on.
        prices: JSON file of prices to take the place of the shipped ones (persona_vectors/judge/prices.json).
    """

    dry_run: bool = False
    max_cost: Annotated[Annotated[float, cli.Between(0)] | None, cli.InFull] = None
    prices: Annotated[str | None, cli.InFull] = None

    def of(self, model: str) -> "Costs":
        """Prices and limit; a limit on a model without a price is refused."""
        from persona_vectors.judge.prices import Costs, read_prices

        costs = Costs(read_prices(self.prices), self.max_cost)
        costs.check(model)
        return costs

    def limiting(self, judging: "JudgeSettings") -> "JudgeSettings":
        """A judge with these costs; a limit needs one that costs something, and only one."""
        from persona_vectors.asking.choose_judge import UNJUDGED

        if self.max_cost is not None and judging.model == UNJUDGED:
            raise UserError(f"--max_cost limits what calls to a judge cost; --judge_model {UNJUDGED} makes none")
        if self.max_cost is not None and len(judging.behind_endpoints) > 1:
            raise UserError(
                f"--max_cost goes with one judge that costs something, not with {', '.join(judging.behind_endpoints)}: ask one "
                "after the other, or see with --dry_run what they cost together"
            )
        for name in judging.behind_endpoints:
            judging = replace(judging, costs=self.of(name))
        return judging

    def refuse_several_runs(self) -> None:
        """A limit holds for one run; several models are several."""
        if self.max_cost is not None:
            raise UserError("--max_cost goes with one model at a time; --dry_run says what each of several costs")
