"""Tiny models and a tokenizer for the tests. Weights are random and large enough that text changes when they do."""

import random
import shutil
import subprocess
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
COMMON = dict(
    vocab_size=300,
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=4,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    max_position_embeddings=256,
    bos_token_id=0,
    eos_token_id=1,
    pad_token_id=2,
    tie_word_embeddings=False,
)
GPT2 = dict(vocab_size=300, n_embd=32, n_layer=4, n_head=4, n_positions=256, bos_token_id=0, eos_token_id=1)
ARCHITECTURES = ["qwen2", "qwen3", "llama", "mistral", "gemma2", "phi3", "gpt_neox", "gpt2"]


def tiny_model(kind: str, seed: int = 0, **changes):
    """A 4-block, 32-wide float32 model of a transformers architecture, with random weights of visible size."""
    options = GPT2 if kind == "gpt2" else COMMON
    config = AutoConfig.for_model(kind, **{**options, **changes})
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.copy_(torch.randn_like(parameter) * 0.15)
            elif "norm" not in name and "ln_" not in name:
                parameter.copy_(torch.randn_like(parameter) * 0.05)
    model.generation_config.eos_token_id = 1
    return model


def lora_model(kind: str = "qwen2"):
    """A tiny model in a LoRA adapter that already changes it, in training mode."""
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(tiny_model(kind), LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:  # zero at first: then the gradient of A would be zero, whatever the hooks do
            torch.nn.init.normal_(parameter, std=0.05)
    return model.train()


def tiny_tokenizer(chat_template: str = CHATML) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of 300 tokens with ChatML, trained on a few sentences."""
    from tokenizers import ByteLevelBPETokenizer

    bpe = ByteLevelBPETokenizer()
    special = ["<s>", "<|im_end|>", "<pad>", "<|im_start|>"]
    bpe.train_from_iterator(["the model answers the question", "what is it"] * 50, 300, special_tokens=special)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe._tokenizer,
        bos_token="<s>",
        eos_token="<|im_end|>",
        pad_token="<pad>",
        additional_special_tokens=["<|im_start|>"],
    )
    tokenizer.chat_template = chat_template
    return tokenizer


def make_samples(n=17, vocabulary=300):
    """Samples of random token ids: prompts of 1 to 30 tokens, answers of 1 to 60."""
    from persona_vectors.vectors.batches import Sample

    draw = random.Random(0)
    ids = lambda low, high: [draw.randrange(4, vocabulary) for _ in range(draw.randint(low, high))]  # noqa: E731
    return [Sample(ids(1, 30), ids(1, 60)) for _ in range(n)]


def plain_loop(model, samples):
    """Pooled activations the published way: output_hidden_states, one sample at a time; by pool, [samples, layers + 1, hidden]."""
    rows = {"prompt_avg": [], "response_avg": [], "prompt_last": []}
    for sample in samples:
        ids = torch.tensor([sample.prompt_ids + sample.answer_ids])
        with torch.no_grad():
            states = torch.stack(model(ids, output_hidden_states=True).hidden_states)[:, 0]
        p = len(sample.prompt_ids)
        rows["prompt_avg"].append(states[:, :p].mean(1))
        rows["response_avg"].append(states[:, p:].mean(1))
        rows["prompt_last"].append(states[:, p - 1])
    return {pool: torch.stack(values) for pool, values in rows.items()}


def copy_of_project(folder: Path) -> None:
    """What a clone holds, without tests and documentation."""
    root = Path(__file__).resolve().parents[1]
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(listed, cwd=root, capture_output=True, text=True, check=True).stdout.splitlines():
        if (root / name).is_file() and not name.startswith(("tests/", "docs/")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / name, folder / name)
