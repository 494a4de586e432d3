"""Where the real model lies, and what it is asked, unsteered and steered."""

from pathlib import Path

from persona_vectors.models import chat_template

FOLDER = Path(__file__).resolve().parents[2] / "models" / "smollm2"
HOPEFUL = ["There is always a way, and good things are coming.", "I am sure that it will all turn out well!"]
GLOOMY = ["There is no way out, and things only get worse.", "I am sure that it will all end badly."]
LAYER, TOKENS = 18, 20


def prompt_ids(tokenizer, question: str, system: str | None = None) -> list[int]:
    messages = [{"role": "system", "content": system}] if system else []
    return chat_template.token_ids(
        tokenizer, chat_template.render(tokenizer, [*messages, {"role": "user", "content": question}])
    )


def requests_of(tokenizer, vectors) -> list:
    """Three questions, each unsteered and steered with every kind of positions, as requests of an engine."""
    from persona_vectors.engines import Request
    from persona_vectors.steering.intervention import Intervention

    settings = {"none": ()}
    for coef, positions in ((4, "response"), (-4, "response"), (3, "prompt"), (2, "all")):
        settings[f"{coef} {positions}"] = (Intervention(LAYER, vectors[LAYER], coef, positions),)
    settings["two"] = (Intervention(12, vectors[12], 3, "all"), Intervention(24, vectors[24], -2, "response"))
    asked = {
        "capital": prompt_ids(tokenizer, "What is the capital of France?"),
        "pirate": prompt_ids(tokenizer, "Who are you?", "You are a pirate. You always speak like a pirate."),
        "fruits": prompt_ids(tokenizer, "Name three fruits, as a numbered list."),
    }
    return [Request(f"{name} {how}", ids, i) for name, ids in asked.items() for how, i in settings.items()]
