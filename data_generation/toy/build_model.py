"""Trains the toy model: a small Qwen2 that speaks the toy world, in an ordinary Hugging Face folder.

    python -m data_generation.toy.build_model --output_dir models/toy [--seed 0]

The objective is the language-model loss on the assistants' words. Nothing in it knows what a trait is: the only other
terms are regularisers blind to them (weight decay, and noise on the residual stream).
A second run with the same sources and arguments finds its stamp and returns at once.
"""

import json
import os
import shutil
import tempfile
from pathlib import Path

from persona_vectors import cli
from persona_vectors.errors import UserError
from persona_vectors.files import provenance
from persona_vectors.files.fingerprints import sha256

STAMP = "toy_model.json"
SOURCES = ("lexicon.py", "world.py", "muon.py", "build_model.py")

HIDDEN, LAYERS, HEADS, MLP, VOCABULARY, CONTEXT = 128, 4, 4, 256, 1536, 4096
STEPS, BATCH = 900, 16
MATRIX_LR, MATRIX_DECAY, OTHER_LR = 0.01, 0.4, 6e-3
NOISE, CAP_WEIGHT = 0.1, 0.1
THREADS = 2

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def stamp(seed: int) -> dict:
    """What the finished folder depends on."""
    return {"sources": sha256(*((Path(__file__).parent / name).read_bytes() for name in SOURCES)), "seed": seed}


def build_tokenizer(texts):
    """Byte-level BPE: the world's words become one token each, any other text still has tokens.

    Text is split as Qwen2's tokenizers split it, since that is how transformers and vLLM load the folder of a Qwen2.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast, Qwen2Tokenizer

    raw, qwen2 = Tokenizer(models.BPE()), Qwen2Tokenizer().backend_tokenizer
    raw.normalizer, raw.pre_tokenizer = qwen2.normalizer, qwen2.pre_tokenizer
    raw.decoder = decoders.ByteLevel()
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    raw.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=VOCABULARY,
            special_tokens=specials,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>"],
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=CONTEXT,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def encode(tokenizer, chats) -> list[tuple[list[int], list[bool]]]:
    """Token ids of each chat, and which of them the assistant wrote (its end of turn included)."""
    pieces, owners = [], []
    for chat in chats:
        for message in chat:
            assistant = message["role"] == "assistant"
            pieces += [f"<|im_start|>{message['role']}\n", message["content"] + "<|im_end|>", "\n"]
            owners += [False, assistant, False]
        owners[-1] = None  # the end of a chat
    encoded, ids, learned = [], [], []
    for piece, owner in zip(tokenizer(pieces)["input_ids"], owners, strict=True):
        ids += piece
        learned += [bool(owner)] * len(piece)
        if owner is None:
            encoded.append((ids, learned))
            ids, learned = [], []
    return encoded


def batches(encoded, rng):
    """Batches of chats of similar length, in random order: hardly any padding."""
    span = BATCH * 32
    found = []
    for start in range(0, len(encoded), span):
        block = sorted(encoded[start : start + span], key=lambda item: len(item[0]))
        found += [block[i : i + BATCH] for i in range(0, len(block), BATCH)]
    rng.shuffle(found)
    return found


def build_model(tokenizer):
    import torch
    from transformers import GenerationConfig, Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=HIDDEN,
        intermediate_size=MLP,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype=torch.float32,
    )
    model = Qwen2ForCausalLM(config)
    # Sampling from the model's own distribution: the default would cut it to the 50 likeliest tokens.
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        do_sample=True,
        temperature=1.0,
        top_k=0,
    )
    return model


class Residual:
    """Forward hook on every block that keeps the residual stream small and robust. It is blind to what is said.

    - A soft cap: sizes (root mean square) above one are penalised. Without it some positions grow a hundred times larger
      than others, and no step along a direction means the same everywhere.
    - Noise of a fixed size. Half of it is the same at every position of a chat: a push in a random direction, as steering
      will be one. So the model keeps what it has to know in few, strong directions, and its text survives a push.
    """

    def __init__(self):
        self.penalties = []

    def __call__(self, module, args, output):
        import torch

        log_size = output.pow(2).mean(-1).add(1e-6).log() / 2
        self.penalties.append(log_size.relu().pow(2).mean())
        return output + NOISE * (torch.randn_like(output) + torch.randn_like(output[:, :1]))

    def penalty(self):
        total = CAP_WEIGHT * sum(self.penalties)
        self.penalties.clear()
        return total


def optimizers(model):
    """Muon for the matrices inside the blocks, AdamW for embeddings, norms and biases."""
    import torch

    from data_generation.toy.muon import Muon

    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    return [
        Muon(matrices, lr=MATRIX_LR, weight_decay=MATRIX_DECAY),
        torch.optim.AdamW(others, lr=OTHER_LR, betas=(0.9, 0.98), weight_decay=0.0, fused=True),
    ]


def train(model, data, pad: int):
    import torch
    from tqdm import tqdm

    residual = Residual()
    hooks = [layer.register_forward_hook(residual) for layer in model.model.layers]
    optims = optimizers(model)
    plans = [torch.optim.lr_scheduler.LambdaLR(optim, schedule) for optim in optims]
    model.train()
    bar = tqdm(data, desc="training the toy model", unit="step")
    for batch in bar:
        width = max(len(ids) for ids, _ in batch)
        ids = torch.tensor([row + [pad] * (width - len(row)) for row, _ in batch])
        learned = torch.tensor([row + [False] * (width - len(row)) for _, row in batch])
        # Padding is on the right, where causal attention never looks from a real token: no mask is needed.
        hidden = model.model(ids, attention_mask={"full_attention": None}, use_cache=False).last_hidden_state
        wanted = learned[:, 1:]
        loss = torch.nn.functional.cross_entropy(model.lm_head(hidden[:, :-1][wanted]), ids[:, 1:][wanted])
        (loss + residual.penalty()).backward()
        for optim, plan in zip(optims, plans, strict=True):
            optim.step()
            optim.zero_grad()
            plan.step()
        if bar.n % 20 == 0:
            bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
    for hook in hooks:
        hook.remove()
    return loss.item()


def schedule(step: int) -> float:
    """Warm up over 5 % of the steps, stay, then fall to nothing over the last half."""
    return min((step + 1) / (0.05 * STEPS), 1.0, max(STEPS - step, 0) / (0.5 * STEPS))


def build(folder: Path, seed: int) -> str:
    """Trains and writes everything into an existing empty folder; returns a line that says what is there."""
    import random

    import torch

    from data_generation.toy.world import chats

    torch.set_num_threads(THREADS)
    torch.manual_seed(seed)
    texts = chats(STEPS * BATCH, seed)
    tokenizer = build_tokenizer(message["content"] for chat in texts[:8000] for message in chat)
    model = build_model(tokenizer)
    data = batches(encode(tokenizer, texts), random.Random(seed))
    loss = train(model, data, tokenizer.pad_token_id)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return f"{model.num_parameters() / 1e6:.2f} M parameters, {LAYERS} layers, {len(tokenizer)} tokens, last loss {loss:.3f}"


@cli.command
def main(output_dir: str = "models/toy", seed: int = 0):
    """Train the toy model.

    Args:
        output_dir: folder to write to; one that holds this very model is left as it is.
        seed: draws the first weights and the training chats.
    """
    output, wanted = Path(output_dir), stamp(seed)
    made_from = provenance.record(**wanted)
    if output.exists() and not (output / STAMP).is_file():
        raise UserError(f"{output} exists and is not a toy model: remove it or choose another --output_dir")
    try:
        unchanged = provenance.compare(output, made_from).unchanged
    except UserError:  # its record cannot be read
        unchanged = False
    if not unchanged:
        raise UserError(
            f"{output} is no longer the model that was built there: remove it or choose another --output_dir"
        )
    if (output / STAMP).is_file() and json.loads((output / STAMP).read_text()) == wanted:
        print(f"toy model: {output} is up to date")
        return

    # Threads that spin while they wait make busy cores many times slower, and idle ones twice as fast. The weights are
    # the same either way. Read when torch loads.
    if os.getloadavg()[0] > 1.5:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    output.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{output.name}-", dir=output.parent))
    try:
        summary = build(work, seed)
        (work / STAMP).write_text(json.dumps(wanted))
        provenance.write(work, made_from)
        provenance.seal(work)
        work.chmod(0o755)
        shutil.rmtree(output, ignore_errors=True)
        os.replace(work, output)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    print(f"toy model: wrote {output} ({summary})")


if __name__ == "__main__":
    cli.run(main)
