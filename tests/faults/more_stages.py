"""Two stages that do several things one after the other, broken in the quick part: monitoring and screening."""

import json
import sys

from stages import Asking, Stage


class Monitoring(Asking):
    """Two system prompts x 3 questions x 4 answers, judged, then projected."""

    name = "monitor"

    def prepare(self) -> None:
        super().prepare()
        (self.world.root / "monitoring").mkdir(exist_ok=True)
        prompts = {"system_prompts": ["be it all", "what is it"]}
        (self.world.root / "monitoring" / "vile.json").write_text(json.dumps(prompts))

    def command(self) -> list[str]:
        return [
            sys.executable, "-m", "eval.monitor", "--model", str(self.world.model), "--trait", "vile",
            "--backend", "hf", "--trait_dir", str(self.world.root), "--max_tokens", "8", "--n_per_question", "4",
            "--batch_size", "4", "--max_concurrent_judges", "4", "--layer", "2", "--output_dir", str(self.folder),
            "--vector_path", str(self.world.root / "vile_response_avg_diff.pt"),
        ]  # fmt: skip

    @property
    def journal(self):
        return self.folder / "vile_system_prompts.csv.journal.jsonl"

    def is_busy(self) -> bool:
        return self.journal.exists() and self.journal.stat().st_size > 1000

    def finished_work(self):
        """Also nothing once the answers are a table: the journal is then of the projection."""
        if (self.folder / "vile_system_prompts.csv").exists():
            return set(self.world.asked()), self.world.root / "none"
        return super().finished_work()


class Screening(Stage):
    """Base answers to 64 rows, two projections of each, tables and figures."""

    name = "projection_difference"
    exclusive = False  # its pieces are locked one by one

    def prepare(self) -> None:
        super().prepare()
        talk = lambda k: [  # noqa: E731
            {"role": "user", "content": f"what is it {k}"},
            {"role": "assistant", "content": f"it is the question {k}"},
        ]
        lines = [json.dumps({"messages": talk(k)}) + "\n" for k in range(64)]
        (self.world.root / "screened.jsonl").write_text("".join(lines))

    def command(self) -> list[str]:
        return [
            sys.executable, "-m", "eval.projection_difference", "--file_path", str(self.world.root / "screened.jsonl"),
            "--vector_path", str(self.world.root / "vile_response_avg_diff.pt"), "--layer", "2", "--backend", "hf",
            "--model_name", str(self.world.model), "--output_dir", str(self.folder / "d"), "--max_tokens", "16",
            "--batch_size", "4", "--select", "high,low", "--k", "5",
        ]  # fmt: skip
