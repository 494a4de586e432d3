"""Tiny random models for tests of the vLLM engine, and answers of transformers to compare with.

The reference is written independently of :mod:`persona_vectors.steering.hooks`: one prompt at a time, no padding, the whole
sequence computed anew for every token, so that there is neither a cache nor a batch to get wrong.
"""

import subprocess
from contextlib import contextmanager
from pathlib import Path

import torch

from persona_vectors.engines.vllm.setup import available

VOCABULARY = 160
STOP_IDS = [2, 3]
LAYERS, HIDDEN = 4, 128

SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": HIDDEN,
    "intermediate_size": 256,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "tie_word_embeddings": False,
}


def without_vllm() -> str | None:
    """Why there is no vLLM to test here, and what would bring it; None where there is."""
    reason = available()
    if reason is None:
        return None
    say = ["bash", "-c", "source scripts/environment.sh; say_without_vllm"]
    return f"{reason}. {subprocess.run(say, capture_output=True, text=True, check=True).stdout.strip()}"


def make_model(folder: Path, architecture: str, seed: int = 0) -> str:
    """Save a random model and tokenizer; weights large enough that a small intervention changes the text."""
    import transformers

    sizes = dict(SIZES)
    if architecture in ("Qwen3", "Gemma", "Gemma2"):
        sizes["head_dim"] = 32
    if architecture == "GPTNeoX":
        del sizes["num_key_value_heads"]
    if architecture == "Gemma2":
        sizes["tie_word_embeddings"] = True  # vLLM knows no other
    torch.manual_seed(seed)
    config = getattr(transformers, f"{architecture}Config")(**sizes)
    model = getattr(transformers, f"{architecture}ForCausalLM")(config).float().eval()
    for name, weight in model.named_parameters():
        if weight.ndim == 2:
            torch.nn.init.normal_(weight, std=1.5 / weight.shape[1] ** 0.5)
        elif "norm" in name and name.endswith("weight"):
            torch.nn.init.uniform_(weight, 0.5, 1.5)
    model.generation_config.eos_token_id = STOP_IDS
    model.generation_config.do_sample, model.generation_config.top_k = True, 3  # must not leak into sampling
    model.generation_config.temperature, model.generation_config.repetition_penalty = 0.5, 1.7
    model.save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return str(folder)


def make_tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["<pad>", "<s>", "</s>", "<end>", *(f"w{k}" for k in range(4, VOCABULARY))]
    tokenizer = Tokenizer(models.WordLevel({word: k for k, word in enumerate(words)}, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        additional_special_tokens=["<end>"],
    )


def make_adapter(folder: Path, base: str, seed: int = 0) -> str:
    """Save a random LoRA adapter of rank 3 (not one that vLLM has a size for) over ``base``."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base),
        LoraConfig(r=3, lora_alpha=6, target_modules=["q_proj", "v_proj", "down_proj"], init_lora_weights=False),
    )
    model.save_pretrained(folder)
    return str(folder)


def answers(engine, requests: list, max_tokens: int) -> dict[str, tuple[list[int], list[float]]]:
    """Greedy token ids and their log-probabilities, by the requests' keys."""
    from vllm import SamplingParams

    def params(_request) -> SamplingParams:
        return SamplingParams(max_tokens=max_tokens, min_tokens=1, temperature=0, logprobs=0)

    found = {}
    for request, output in engine.outputs(requests, params):
        chosen = zip(output.token_ids, output.logprobs, strict=True)
        found[request.key] = list(output.token_ids), [logprobs[token].logprob for token, logprobs in chosen]
    return found


def spare_inspection(*architectures: str) -> None:
    """Let vLLM look at model classes in this process: otherwise it starts one for each, for ten seconds."""
    from vllm import ModelRegistry

    for architecture in architectures:
        ModelRegistry.register_model(architecture, ModelRegistry.models[architecture].load_model_cls())


class Reference:
    """A transformers model with a plain hook per intervention."""

    def __init__(self, path: str, adapter: str | None = None) -> None:
        from transformers import AutoModelForCausalLM

        self.model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation="eager").eval()
        if adapter:
            from peft import PeftModel

            self.model = PeftModel.from_pretrained(self.model, adapter).eval()

    @torch.no_grad()
    def greedy(self, prompt: list[int], interventions: tuple, max_tokens: int) -> tuple[list[int], list[float]]:
        """Token ids of the answer, up to and with a stop token, and the log-probability of each."""
        ids, logprobs = list(prompt), []
        with added(self.model, interventions, len(prompt)):
            while len(logprobs) < max_tokens and (not logprobs or ids[-1] not in STOP_IDS):
                logits = self.model(torch.tensor([ids]), use_cache=False).logits[0, -1]
                if not logprobs:
                    allowed = logits.clone()
                    allowed[STOP_IDS] = -torch.inf  # at least one token
                    ids.append(int(allowed.argmax()))
                else:
                    ids.append(int(logits.argmax()))
                logprobs.append(float(logits.log_softmax(-1)[ids[-1]]))
        return ids[len(prompt) :], logprobs


@contextmanager
def added(model, interventions: tuple, prompt_length: int):
    """Within the block, a plain hook per intervention; every forward is of one whole sequence, without a cache."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    blocks = base.gpt_neox.layers if hasattr(base, "gpt_neox") else base.model.layers
    handles = [
        blocks[i.layer - 1].register_forward_hook(_hook(i, prompt_length))
        for kind in ("ablate", "add")  # in the order of persona_vectors.steering.hooks
        for positions in ("response", "prompt", "all")
        for i in interventions
        if i.kind == kind and i.positions == positions
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _hook(intervention, prompt_length: int):
    def hook(_block, _args, output):
        h = output[0] if isinstance(output, tuple) else output
        h = h.clone()
        first, end = {
            "all": (0, None),
            "prompt": (0, prompt_length),
            "response": (prompt_length - 1, None),
        }[intervention.positions]
        v = intervention.vector.float()
        if intervention.kind == "add":
            h[:, first:end] += intervention.coef * v
        else:
            u = v / v.norm()
            part = h[:, first:end]
            h[:, first:end] = part - (part @ u)[..., None] * u
        return (h, *output[1:]) if isinstance(output, tuple) else h

    return hook
