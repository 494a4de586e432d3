"""Base models without a chat template that know one conversation by heart, and run on into the next question."""

import functools

import torch
from helpers import tiny_model, tiny_tokenizer

ANSWER = "the model answers"
RUNS_ON = f"{ANSWER}\n\nUser:\nwhat is it\n\nAssistant:\n"  # what they write after a prompt, over and over


@functools.cache
def base_tokenizer():
    """A byte-level tokenizer without a chat template; its end token never comes up here."""
    return tiny_tokenizer(None)


@functools.cache
def base_model(kind: str, text: str = RUNS_ON):
    """A tiny ``gpt2`` or ``gpt_neox`` that was trained on ``text``, repeated, until it writes it."""
    ids = torch.tensor(base_tokenizer()(f"\n{text * 2}")["input_ids"])[None]
    model = tiny_model(kind).train()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    if kind == "gpt2":  # it would learn the text for the places it stood at
        model.transformer.wpe.weight.requires_grad_(False).zero_()
    for _ in range(300):
        loss = model(ids, labels=ids).loss
        if loss < 0.02:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


@torch.no_grad()
def plain_answer(model, tokenizer, prompt: str, max_tokens: int) -> str:
    """What a loop without a cache writes greedily after a prompt, cut where the next question begins."""
    ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    first = len(ids)
    while len(ids) - first < max_tokens:
        logits = model(torch.tensor([ids])).logits[0, -1]
        ids.append(int(logits.argmax()))
        text = tokenizer.decode(ids[first:])
        if "\nUser:" in text:
            return text.partition("\nUser:")[0].rstrip()
        if ids[-1] == tokenizer.eos_token_id:
            break
    return tokenizer.decode(ids[first:], skip_special_tokens=True)
