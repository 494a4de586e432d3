"""Questions under graded conditions: graded system prompts, or many-shot exemplars (section 3.3, appendix C).

Independent of engines and projections.
"""

import random
from pathlib import Path

from persona_vectors.errors import UserError
from persona_vectors.files.jsonfile import read_json
from persona_vectors.traits.artifact import Question, Trait


def load_system_prompts(trait: str, trait_dir: str) -> list[str]:
    """The graded prompts in ``<trait_dir>/monitoring/<trait>.json``, from trait-eliciting to trait-suppressing.

    The file holds ``{"system_prompts": [...]}``.

    Raises:
        UserError: no such file, or not two or more texts.

    Example:
        questions = under_system_prompts(trait, load_system_prompts("evil", "data_generation"))
    """
    path = Path(trait_dir) / "monitoring" / f"{trait}.json"
    form = 'it should hold {{"system_prompts": [...]}}, strongest first'
    content = read_json(path, missing=f"no graded prompts at {{path}}; {form}")
    if "system_prompts" not in content:
        raise UserError(f"{path} does not hold system_prompts")
    prompts = content["system_prompts"]
    if not isinstance(prompts, list) or len(prompts) < 2 or not all(isinstance(p, str) and p.strip() for p in prompts):
        raise UserError(f"{path}: 'system_prompts' must be a list of two or more texts")
    return prompts


def under_system_prompts(trait: Trait, prompts: list[str]) -> list[Question]:
    """Every question under every system prompt; the conditions are ``prompt 1`` (strongest), ``prompt 2`` ...

    Example:
        under_system_prompts(trait, ["You are evil.", "You are kind."])[1].condition  # "prompt 2"
    """
    return [
        Question(f"{trait.name}_{i}_prompt_{k}", text, system, condition=f"prompt {k}")
        for i, text in enumerate(trait.questions)
        for k, system in enumerate(prompts, 1)
    ]


def after_exemplars(trait: Trait, pool: list[tuple[str, str]], shots: list[int], seed: int) -> list[Question]:
    """Every question after each number of exemplars.

    Each question draws its own exemplars, and a longer list starts with the shorter one. Within a prompt, no question
    repeats before all questions of the pool have been used.

    Args:
        pool: (question, answer) of effective answers.
        shots: numbers of exemplars, e.g. [0, 5, 10, 15, 20].

    Raises:
        UserError: the pool has fewer answers than the largest number of shots.

    Example:
        after_exemplars(trait, pool, shots=[0, 5, 20], seed=0)[1].condition  # "5 shots"
    """
    if len(pool) < max(shots):
        raise UserError(f"{max(shots)} shots of {trait.name} need as many effective answers; there are {len(pool)}")
    questions = []
    for i, text in enumerate(trait.questions):
        drawn = _one_per_question_first(random.Random(f"{seed}|{trait.name}|{i}").sample(pool, len(pool)))
        for n in shots:
            name = f"{trait.name}_{i}_shots_{n}"
            questions.append(Question(name, text, shots=tuple(drawn[:n]), condition=f"{n} shots"))
    return questions


def _one_per_question_first(drawn: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Reordered so that no question repeats before all have occurred."""
    rounds: dict[str, int] = {}
    keys = []
    for question, _ in drawn:
        keys.append(rounds.get(question, 0))
        rounds[question] = keys[-1] + 1
    return [pair for _, pair in sorted(zip(keys, drawn, strict=True), key=lambda item: item[0])]
