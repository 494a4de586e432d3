"""Asking a model and having the answers judged: answer sheets in, answers and scores on disk.

Knows engines, judges and sheets; which questions are asked, and why, is the stage's business.
"""

import contextlib
from dataclasses import dataclass

from persona_vectors import chat, cli
from persona_vectors.answers import AnswerSheet, Wanted
from persona_vectors.engines import BACKENDS, Engine, Request, Sampling, choose_backend, open_engine, request_seed
from persona_vectors.errors import NothingScored, UserError
from persona_vectors.grid import Grid
from persona_vectors.judges import JudgeFlags
from persona_vectors.models import ModelPath, Shape


@dataclass(frozen=True)
class EngineFlags:
    """Which engine, and its own options, as the command line has them."""

    backend: str
    batch_size: int
    vllm_options: dict

    @classmethod
    def read(cls, backend: object, batch_size: object, **vllm_flags: object) -> "EngineFlags":
        """Check ``--backend``, ``--batch_size`` (hf) and vLLM's own flags, of which None was not given."""
        backend = cli.as_choice("backend", backend, BACKENDS)
        return cls(backend, cli.as_int("batch_size", batch_size, 1), _vllm_options(**vllm_flags))

    def choose(self) -> "EngineFlags":
        """The engine that ``auto`` means here; refuses what it cannot use. Cheap."""
        backend = choose_backend(self.backend)
        if backend == "hf" and self.vllm_options:
            flag = next(iter(self.vllm_options))
            raise UserError(f"--{flag} is vLLM's, and the backend is hf; leave it out or use --backend vllm")
        return EngineFlags(backend, self.batch_size, self.vllm_options)

    def open(self, path: ModelPath, dtype: str, trust_remote_code: bool, longest: int) -> Engine:
        """Load the model into the chosen engine, for sequences of at most ``longest`` tokens."""
        options = (
            {"batch_size": self.batch_size} if self.backend == "hf" else {"max_model_len": longest, **self.vllm_options}
        )
        return open_engine(self.backend, path, dtype, trust_remote_code, **options)


def _vllm_options(**flags: object) -> dict:
    """The flags of vLLM's that were given, as options of its engine."""
    options = {}
    for name, value in flags.items():
        if value is not None and name.endswith("_size"):
            options[name] = cli.as_int(name, value, 1)
        elif name == "gpu_memory_utilization" and value is not None:
            (options[name],) = cli.as_numbers(name, value)
            if not 0 < options[name] <= 1:
                raise UserError(f"--{name} is a part of the memory, more than 0 and at most 1, not {value}")
        elif value is not None:
            options[name] = value
    return options


@dataclass(frozen=True)
class Asked:
    """Who is asked, and how: the model, its chosen engine, and the settings of generation.

    ``settings`` has max_tokens, n_per_question (1 is greedy), seed, enable_thinking and dtype.
    """

    path: ModelPath
    shape: Shape
    engine: EngineFlags
    settings: dict
    trust_remote_code: bool = False


def ask_and_judge(
    sheets: list[AnswerSheet],
    asked: Asked,
    judging: JudgeFlags,
    grid: Grid | None = None,
    overwrite: bool = False,
) -> None:
    """Fill the sheets and write them: what an earlier run left is taken up, the rest generated and judged at once.

    ``overwrite`` begins anew although an unfinished run with other settings exists.
    """
    grid = grid or Grid.from_flags("0", None, None, "response")
    with contextlib.ExitStack() as opened:
        for sheet in sheets:
            sheet.open(overwrite)
            opened.callback(sheet.journal.close)  # one without work leaves nothing
        _fill(sheets, asked, judging, grid)


def _fill(sheets: list[AnswerSheet], asked: Asked, judging: JudgeFlags, grid: Grid) -> None:
    """Ask and judge what the open sheets lack, and write them."""
    from tqdm import tqdm

    from persona_vectors.models import load_tokenizer

    settings, longest = asked.settings, asked.shape.max_length
    sampling = Sampling(settings["max_tokens"], temperature=0.0 if settings["n_per_question"] == 1 else 1.0)
    judge = judging.open(sheets, asked)
    try:
        for sheet in sheets:
            sheet.judged_by(judge.how)
        tokenizer = load_tokenizer(asked.path, asked.trust_remote_code)
        requests, origin = make_requests(sheets, grid, tokenizer, settings, longest)
        with judge.scoring(sheets) as scores:
            for sheet in sheets:  # answers of an earlier run that were never scored
                for key in list(sheet.answers):
                    scores.ask(sheet, key)
            if requests:
                needed = max(len(request.prompt_ids) for request in requests) + sampling.max_tokens
                needed = min(needed, longest or needed)
                engine = asked.engine.open(asked.path, settings["dtype"], asked.trust_remote_code, needed)
                with contextlib.closing(engine):
                    answers = engine.generate(requests, sampling)
                    for answer in tqdm(answers, total=len(requests), desc="answers", position=0):
                        sheet, wanted, prompt = origin[answer.key]
                        sheet.add_answer(wanted, prompt, answer.text, answer.reasoning)
                        scores.ask(sheet, wanted.key)
                    scores.finish(engine)
            scores.finish()
    finally:
        judge.close()
    print(judge.summary())
    unscored = []
    for sheet in sheets:
        try:
            sheet.write()
        except NothingScored as error:  # the other sheets are whole
            unscored.append(error)
    if unscored:
        raise unscored[0]


def make_requests(
    sheets: list[AnswerSheet], grid: Grid, tokenizer, settings: dict, max_length: int | None
) -> tuple[list[Request], dict[str, tuple[AnswerSheet, Wanted, str]]]:
    """What is still to be asked, over all sheets, and where each answer belongs (sheet, row, templated prompt)."""
    requests, origin, prompts = [], {}, {}
    for number, sheet in enumerate(sheets):
        for wanted in sheet.unanswered():
            question = wanted.question
            if question not in prompts:
                text = chat.render(tokenizer, question.messages, settings["enable_thinking"])
                prompts[question] = text, chat.token_ids(tokenizer, text)
                if max_length is not None and len(prompts[question][1]) >= max_length:
                    raise UserError(
                        f"the prompt of {question.id} has {len(prompts[question][1])} tokens and leaves no room for an "
                        f"answer: the model takes {max_length}"
                    )
            text, ids = prompts[question]
            key = f"{number}|{wanted.key}"
            origin[key] = sheet, wanted, text
            interventions = grid.interventions(sheet.trait.name, wanted.cell)
            requests.append(Request(key, ids, interventions, request_seed(settings["seed"], wanted.draw)))
    if any(question.system for question in prompts) and chat.folds_system_prompt(tokenizer):
        print("this chat template has no system role: system prompts are put in front of the question")
    return requests, origin
