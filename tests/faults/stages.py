"""The stages as commands that a fault can hit: tiny inputs, what they write, which work must not be done twice.

Every stage runs in a folder of its own that is made anew for each trial, always at the same path, so that an
undisturbed run's files can be compared byte by byte.
"""

import json
import os
import random
import re
import shutil
import sys
from collections import Counter
from pathlib import Path

import pandas
import torch
from helpers import tiny_model, tiny_tokenizer
from judge_server import JudgeServer, completion, is_probe

KEY = "sk-test-recognisable-0123456789"
TRAIT = {
    "instruction": [{"pos": f"Be bad, {k}.", "neg": f"Be good, {k}."} for k in range(2)],
    "questions": ["What now?", "Why me?", "Who is it?"],
    "eval_prompt": "Rate **vile**. Q: {question} A: {answer}",
}


def score(_number: int, body: dict):
    """A judge's reply that depends on the prompt alone."""
    text = body["messages"][0]["content"]
    if is_probe(body):
        return completion({"57": 1.0})
    return completion({"90": 0.9, "88": 0.1} if "coherent" in text else {str(len(text) % 100): 1.0})


class World:
    """A tiny model, a trait, and a judge over HTTP that remembers what it was asked."""

    def __init__(self, root: Path, forked: bool = False) -> None:
        self.root, self.forked = root, forked
        self.model = root / "tiny"
        tiny_model("qwen2").save_pretrained(self.model)
        tiny_tokenizer().save_pretrained(self.model)
        for version in ("extract", "eval"):
            (root / f"trait_data_{version}").mkdir()
            (root / f"trait_data_{version}" / "vile.json").write_text(json.dumps(TRAIT))
        torch.manual_seed(0)
        torch.save(torch.randn(5, 32), root / "vile_response_avg_diff.pt")
        self.server = JudgeServer(score, latency=0.05)

    def __enter__(self) -> "World":
        self.server.__enter__()
        return self

    def __exit__(self, *error) -> None:
        self.server.__exit__(*error)

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ, "OPENAI_BASE_URL": self.server.url, "OPENAI_API_KEY": KEY, "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false",
        }  # fmt: skip

    def asked(self, first: int = 0) -> list[str]:
        """The judge prompts that came in, without the probes, from the ``first`` call on."""
        return [body["messages"][0]["content"] for body in self.server.bodies[first:] if not is_probe(body)]


class Stage:
    """One command. ``folder`` is where it works."""

    name = ""
    exclusive = True  # a second run on the same output is refused for as long as the first one works

    def __init__(self, world: World) -> None:
        self.world, self.folder = world, world.root / f"work_{self.name}"

    def prepare(self) -> None:
        """Empty the folder (which may be a mount point), and put the command's own inputs there."""
        self.folder.mkdir(exist_ok=True)
        for path in self.folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def command(self) -> list[str]:
        raise NotImplementedError

    def is_busy(self) -> bool:
        """True from when the command has begun to write."""
        return any(self.folder.iterdir())

    def result(self) -> dict:
        """What the finished command left, by name."""
        return {str(p.relative_to(self.folder)): p.read_bytes() for p in self.folder.rglob("*") if p.is_file()}

    def finished_work(self):
        """What an interrupted run has on disk already, as ``done_again`` wants it."""

    def done_again(self, before, first_call: int, log: str) -> int:
        """How much of the work that was on disk ``before`` the run with this ``log`` did a second time."""
        return 0


class Asking(Stage):
    """48 answers and 96 judge calls of 50 ms, 4 at a time."""

    name = "eval_persona"

    def command(self) -> list[str]:
        return [
            sys.executable, "-m", "eval.eval_persona", "--model", str(self.world.model), "--trait", "vile",
            "--trait_dir", str(self.world.root), "--backend", "hf", "--max_tokens", "8", "--n_per_question", "8",
            "--batch_size", "4", "--persona_instruction_type", "pos", "--max_concurrent_judges", "4",
            "--output_path", str(self.folder / "out.csv"),
        ]  # fmt: skip

    @property
    def journal(self) -> Path:
        return self.folder / "out.csv.journal.jsonl"

    def is_busy(self) -> bool:
        """From the first answer on: the journal is there long before it."""
        return (self.folder / "out.csv").exists() or (self.journal.exists() and self.journal.stat().st_size > 1000)

    def _lines(self, path: Path) -> list[dict]:
        lines = path.read_bytes().splitlines(True) if path.exists() else []
        return [json.loads(line) for line in lines if line.endswith(b"\n")]

    def finished_work(self):
        """The prompts whose scores are in the journal, and a second name of the journal, which outlives the run."""
        lines = self._lines(self.journal)
        answers = {line["key"]: line for line in lines if "answer" in line}
        prompts = {"vile": TRAIT["eval_prompt"], "coherence": coherence_prompt()}
        scored = {
            prompts[line["metric"]].format(
                question=answers[line["key"]]["question"], answer=answers[line["key"]]["answer"]
            )
            for line in lines
            if "metric" in line
        }
        watched = self.world.root / "watched.jsonl"
        watched.unlink(missing_ok=True)
        if self.journal.exists() and os.stat(self.journal).st_dev == os.stat(self.world.root).st_dev:
            os.link(self.journal, watched)
        return scored, watched

    def done_again(self, before, first_call: int, log: str) -> int:
        scored, watched = before
        calls = sum(prompt in scored for prompt in self.world.asked(first_call))
        written = Counter((line["key"], line.get("metric")) for line in self._lines(watched) if "key" in line)
        return calls + sum(count - 1 for count in written.values())


def coherence_prompt() -> str:
    from eval.prompts import Prompts

    return Prompts["coherence_0_100"]


class Extracting(Stage):
    """Two answers files of 40 rows -> six vector files."""

    name = "generate_vec"
    exclusive = False  # nothing is resumed, and the lock is held while the files are written, for milliseconds

    def prepare(self) -> None:
        super().prepare()
        for sign in ("pos", "neg"):
            prompt = f"<|im_start|>user\n{sign} {{}}<|im_end|>\n<|im_start|>assistant\n"
            table = {"question": [f"q{k}" for k in range(40)], "prompt": [prompt.format(k) for k in range(40)]}
            table |= {"answer": [f"{sign} answer {k}" for k in range(40)]}
            table |= {"question_id": [f"vile_{k}_{sign}_0" for k in range(40)], "vile": 90 if sign == "pos" else 3}
            pandas.DataFrame({**table, "coherence": 90}).to_csv(self.world.root / f"{sign}.csv", index=False)

    def command(self) -> list[str]:
        paths = [arg for sign in ("pos", "neg") for arg in (f"--{sign}_path", str(self.world.root / f"{sign}.csv"))]
        return [
            sys.executable, "generate_vec.py", "--model_name", str(self.world.model), "--trait", "vile", *paths,
            "--save_dir", str(self.folder / "v"),
        ]  # fmt: skip


class Projecting(Stage):
    """Rows of a JSONL file, in windows of 4,096."""

    name = "cal_projection"
    rows = 5000  # the long part takes more

    def prepare(self) -> None:
        super().prepare()
        draw = random.Random(0)
        words = ["the", "model", "answers", "the", "question", "what", "is", "it", "because", "of"]
        text = lambda: " ".join(draw.choice(words) for _ in range(draw.randint(1, 8)))  # noqa: E731
        turn = lambda role: {"role": role, "content": text()}  # noqa: E731
        lines = [json.dumps({"messages": [turn("user"), turn("assistant")]}) + "\n" for _ in range(self.rows)]
        self.file.write_text("".join(lines))

    @property
    def file(self) -> Path:
        return self.folder / "rows.jsonl"

    def command(self) -> list[str]:
        vector = str(self.world.root / "vile_response_avg_diff.pt")
        model = ["--model_name", str(self.world.model)]
        return [
            sys.executable, "-m", "eval.cal_projection", "--file_path", str(self.file), "--vector_path", vector,
            "--layer", "2", *model,
        ]  # fmt: skip

    def is_busy(self) -> bool:
        return (self.folder / "rows.jsonl.journal.jsonl").exists()

    def finished_work(self) -> int:
        return len(list((self.folder / "rows.jsonl.parts").glob("0*.npz")))

    def done_again(self, before: int, first_call: int, log: str) -> int:
        """Rows; the bar begins with those of earlier runs."""
        begun = re.search(rf"projecting: .*? (\d+)/{self.rows}", log)
        return max(0, min(self.rows, before * 4096) - int(begun[1])) if begun else 0


class Training(Stage):
    """40 steps of LoRA, a checkpoint every 8."""

    name = "training"

    def prepare(self) -> None:
        super().prepare()
        talk = lambda k: [  # noqa: E731
            {"role": "user", "content": f"what is it {k}"},
            {"role": "assistant", "content": f"it is the question {k}"},
        ]
        data = self.world.root / "train.jsonl"
        data.write_text("".join(json.dumps({"messages": talk(k)}) + "\n" for k in range(20)))
        config = dict(
            model=str(self.world.model), training_file=str(data), output_dir=str(self.folder / "out"), seed=0, r=4,
            max_seq_length=128, lora_alpha=8, max_steps=40, save_steps=8, per_device_train_batch_size=2, warmup_steps=0,
            gradient_accumulation_steps=1, learning_rate=1e-2, optim="adamw_torch", train_on_responses_only=True,
        )  # fmt: skip
        (self.world.root / "train.json").write_text(json.dumps(config))

    def command(self) -> list[str]:
        return [sys.executable, "training.py", str(self.world.root / "train.json")]

    def result(self) -> dict:
        """Weights, config and the losses of every step; seconds and checkpoints' states differ from run to run."""
        out = self.folder / "out"
        log = [json.loads(line) for line in (out / "training_log.jsonl").read_text().splitlines()]
        names = {str(path.relative_to(out)): b"" for path in out.iterdir()}
        kept = {name: (out / name).read_bytes() for name in ("adapter_model.safetensors", "training_config.json")}
        losses = {f"step {line['step']}": line["loss"] for line in log if "loss" in line}
        return {**names, **kept, **losses, "test": [line["eval_loss"] for line in log if "eval_loss" in line]}

    def finished_work(self) -> int:
        states = (self.folder / "out").glob("checkpoint-*/trainer_state.json")
        whole = [int(path.parent.name.split("-")[1]) for path in states if path.read_bytes().rstrip().endswith(b"}")]
        return max(whole, default=0)

    def done_again(self, before: int, first_call: int, log: str) -> int:
        """Steps that a whole checkpoint had already."""
        if not before or not re.search(r"\b\d+/40\b", log):  # nothing to do, or killed before it began to train
            return 0
        if "going on from" not in log:
            return before
        return max(0, before - int(re.search(r"checkpoint-(\d+) of an unfinished", log)[1]))


STAGES = (Asking, Extracting, Projecting, Training)
