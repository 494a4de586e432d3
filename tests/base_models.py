"""Base models without a chat template that answer every prompt alike, and run on into a question of their own."""

import functools
import itertools

import torch
from helpers import tiny_model
from tokenizers import ByteLevelBPETokenizer
from transformers import PreTrainedTokenizerFast

ANSWER = "the model answers"
RUNS_ON = ["Ċ", "the", "Ġmodel", "Ġanswers", "ĊĊ", "U", "s", "er", ":", "Ċ"]  # over and over, after any line break


@functools.cache
def vocabulary():
    bpe = ByteLevelBPETokenizer()
    texts = [ANSWER, "the model answers the question", "what is it", "model\n\n"]
    bpe.train_from_iterator(texts * 50, 300, special_tokens=["<s>", "<end>"])
    return bpe._tokenizer


def base_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level tokenizer of 300 tokens without a chat template, and without a token for padding, as GPT-2's."""
    return PreTrainedTokenizerFast(tokenizer_object=vocabulary(), bos_token="<s>", eos_token="<end>")


@torch.no_grad()
def base_model(kind: str, **changes):
    """A tiny ``gpt2`` or ``gpt_neox`` of random weights that sees the last token before all, and writes :data:`RUNS_ON`."""
    model = tiny_model(kind, tie_word_embeddings=False, **changes)
    for name, weight in model.named_parameters():
        if "wpe" in name or "dense" in name or "c_proj" in name:
            weight.mul_(0.03)
    ids = base_tokenizer().convert_tokens_to_ids(RUNS_ON)
    seen, said = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    for now, following in itertools.pairwise(ids):
        said[following] += 6 * seen[now] / seen[now].norm()
    return model


@torch.no_grad()
def plain_answer(model, tokenizer, prompt: str, max_tokens: int) -> str:
    """What a loop without a cache writes greedily after a prompt, up to where it begins the next question."""
    ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    first = len(ids)
    while len(ids) - first < max_tokens:
        ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
        text = tokenizer.decode(ids[first:])
        if "\nUser:" in text:
            return text.partition("\nUser:")[0].rstrip()
        if ids[-1] == tokenizer.eos_token_id:
            break
    return tokenizer.decode(ids[first:], skip_special_tokens=True)
