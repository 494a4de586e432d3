"""Answers end with the turn, also of models whose files call another token their end: GGUF files, base models, Llama 3 at first."""

import itertools
import sys
from pathlib import Path

import pytest
import torch
from gguf_files import write_gguf
from helpers import CHATML, tiny_model, tiny_tokenizer

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "training"))

from templates import FAMILIES, Family

from persona_vectors import models
from persona_vectors.app.token_stream import End, Token, side_by_side
from persona_vectors.engines.base import Request, Sampling, named_stop_ids, stop_ids
from persona_vectors.engines.hf import HFEngine
from persona_vectors.models import gguf_conversion
from persona_vectors.models.chat_template import Given, render, token_ids
from persona_vectors.training.trainer import stop_tokens

ASK = [{"role": "user", "content": "what is it"}]
ENDS = {
    "qwen2.5": "<|im_end|>", "qwen3": "<|im_end|>", "qwen3-thinking": "<|im_end|>", "qwen3.8": "<|im_end|>",
    "llama3": "<|eot_id|>", "gemma": "<end_of_turn>", "phi3": "<|end|>", "glm4": "<|user|>", "glm4.5": "<|user|>",
}  # fmt: skip


@pytest.mark.parametrize("name", FAMILIES)
def test_the_end_of_a_turn_is_found_in_the_template(name):
    """Where the files name the end of text alone; where they name all ends, nothing is added."""
    family = FAMILIES[name]
    tokenizer = family.tokenizer()
    assert stop_ids(family.stop_ids(tokenizer), tokenizer) == named_stop_ids(family.stop_ids(tokenizer), tokenizer)
    text_end = "<|endoftext|>" if name.startswith("qwen") else family.eos
    special = tuple({*family.special, *family.stops, family.eos} - {text_end})
    alone = Family(family.template, special, text_end, ()).tokenizer()
    added = {alone.convert_ids_to_tokens(token) for token in stop_ids(None, alone)} - {text_end}
    assert added == ({ENDS[name]} if name in ENDS else set())


@pytest.mark.parametrize(
    "template", [None, "{% for", "{{ messages[9].content }}", "{% for m in messages %}{{ m.content }}{% endfor %}"]
)
def test_a_template_that_tells_nothing_adds_nothing(template):
    tokenizer = tiny_tokenizer(template)
    assert stop_ids(None, tokenizer) == stop_ids(1, tokenizer) == [1]


def without_an_end(chat_template: str | None = CHATML):
    """The tests' tokenizer, which calls <s> its end and not <|im_end|>, as base models with the tokens of chats do."""
    tokenizer = tiny_tokenizer(chat_template)
    tokenizer.eos_token = "<s>"
    return tokenizer


@torch.no_grad()
def model_that_runs_on(kind: str = "gpt_neox"):
    """Writes "the model", ends the turn, and begins the same again on the next line."""
    model = tiny_model(kind, tie_word_embeddings=False)
    for name, weight in model.named_parameters():
        if "dense" in name or "_proj" in name:
            weight.mul_(0.03)
    ids = token_ids(tiny_tokenizer(), "\nthe model<|im_end|>\n")
    seen, said = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    for now, following in itertools.pairwise(ids):
        said[following] += 6 * seen[now] / seen[now].norm()
    model.generation_config.eos_token_id = model.config.eos_token_id = 0
    return model


def check(model, tokenizer) -> None:
    """The answer ends with its turn, in the engine and in the chat."""
    prompt = token_ids(tokenizer, render(tokenizer, ASK))
    (answer,) = HFEngine.of(model, tokenizer).generate([Request("0", prompt)], Sampling(40, 0.0))
    assert (answer.text, answer.finish_reason) == ("the model", "stop")
    events = list(side_by_side(model, tokenizer, [prompt], [()], 1, torch.ones(32), Sampling(40, 0.0)))
    assert "".join(e.text for e in events if isinstance(e, Token)) == "the model"
    assert [e.reason for e in events if isinstance(e, End)] == ["stop"]


def test_a_models_own_template():
    check(model_that_runs_on(), without_an_end())


def test_a_template_that_is_given(tmp_path):
    (tmp_path / "chatml.jinja").write_text(CHATML)
    tokenizer = without_an_end(None)
    Given.of(str(tmp_path / "chatml.jinja")).put_on(tokenizer)
    check(model_that_runs_on(), tokenizer)


TYPES = {  # of <s>, <|im_end|>, <pad>, <|im_start|>: 3 is a control token, 4 one that a user defined, 1 a piece of text
    "as they should be": {},
    "defined by a user": {"tokenizer__ggml__token_type": [3, 4, 3, 4, *[1] * 296]},
    "pieces of text": {"tokenizer__ggml__token_type": [3, 1, 3, 1, *[1] * 296]},
    "not said": {"leave_out": ["tokenizer.ggml.token_type"]},
}


@pytest.mark.parametrize("types", TYPES)
def test_a_gguf_file_that_names_the_end_of_text_alone(types, tmp_path, monkeypatch):
    """Whatever it says of the tokens that the template writes. Training goes on to teach an end at which every tool stops."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    gguf_conversion._folder_of.cache_clear()
    model = model_that_runs_on("llama")
    path = models.resolve(str(write_gguf(tmp_path / "phi.gguf", model, without_an_end(), **TYPES[types])))
    tokenizer = models.load_tokenizer(path)
    assert token_ids(tokenizer, render(tokenizer, ASK)) == token_ids(tiny_tokenizer(), render(tiny_tokenizer(), ASK))
    check(models.load_model(path, "float32"), tokenizer)
    assert models.ends_of(path) == [0] == stop_tokens(path, tokenizer)
