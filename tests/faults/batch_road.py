"""Scores through the batch API, killed at random while everything fails now and then: each is paid for once.

python tests/faults/batch_road.py        # 10,000 scores, 20 kills, faults at 10 %
python tests/faults/batch_road.py URL OUTPUT ANSWERS REQUESTS        # the process that is killed
"""

import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]


def score_all(output: str, answers: int, requests: int) -> None:
    """The toolkit's own sheet, journal and judge over given answers, in batches of so many requests."""
    from persona_vectors.asking.batch_judge import BatchJudge
    from persona_vectors.asking.sheet import AnswerSheet
    from persona_vectors.judge import batch
    from persona_vectors.judge.cached import CachedJudge
    from persona_vectors.steering.sweep import Grid
    from persona_vectors.traits.artifact import Trait, make_questions

    batch.MOST_REQUESTS = requests  # many batches of few scores
    trait = Trait("vile", [], [f"Question {k}?" for k in range(answers)], "")
    prompts = {"vile": "Rate **vile**. {question} {answer}", "coherence": "How coherent? {question} {answer}"}
    sheet = AnswerSheet(output, trait, make_questions(trait), 1, Grid.of([0.0]).cells, prompts, {})
    sheet.open()
    judge = BatchJudge(CachedJudge("m"), [sheet])
    sheet.judged_by(judge.how)
    for wanted in sheet.unanswered():
        sheet.add_answer(wanted, "prompt", f"answer {wanted.key}")
    judge.finish()
    judge.close()
    print(judge.summary())
    sheet.write()


def measure(answers: int, kills: int, faults: float, requests: int, seed: int = 0) -> list[str]:
    """Score ``answers`` twice over, killed so often; what was wrong."""
    import pandas
    from batch_server import BatchServer
    from judge_server import completion, is_probe

    def reply(_n, body):
        text = body["messages"][0]["content"]
        if is_probe(body):
            return completion({"57": 1.0})
        return completion({f"{60 + len(text) % 30}": 1.0})

    draw = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder, BatchServer(reply, faults, seconds=1.0, seed=seed) as server:
        output = Path(folder) / "out.csv"
        command = [sys.executable, __file__, server.url, str(output), str(answers), str(requests)]
        environment = {**os.environ, "OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": "none", "PYTHONPATH": str(ROOT)}
        killed = runs = 0
        while not output.exists() or Path(f"{output}.journal.jsonl").exists():
            runs += 1
            process = subprocess.Popen(
                command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
            )
            journal = Path(f"{output}.journal.jsonl")
            before = journal.stat().st_size if journal.exists() else 0
            if killed < kills:
                while process.poll() is None and (not journal.exists() or journal.stat().st_size <= before):
                    time.sleep(0.01)
                time.sleep(draw.random() * 1.5)
                if process.poll() is None:
                    process.kill()
                    killed += 1
            said = process.communicate()[1]
            if process.returncode not in (0, -9):
                print(said.strip().splitlines()[-1][:300])
            if runs > 10 * kills + 20:
                return [f"not done after {runs} runs: {said[-500:]}"]
        table = pandas.read_csv(output)
        wrong = list(server.wrong)
        expected = [60 + len(f"Rate **vile**. Question {k}? answer vile_{k}|0") % 30 for k in range(answers)]
        if table["vile"].tolist() != expected or table["coherence"].isna().any():
            wrong.append(f"other scores: {table['vile'].isna().sum()} are missing")
        if set(server.answered.values()) != {1} or len(server.answered) != 2 * answers:
            wrong.append(
                f"{len(server.answered)} requests were answered, {max(server.answered.values())} times at most"
            )
        batches = len(server.batches)
        print(
            f"{2 * answers:,} scores, {killed} kills, {runs} runs, {batches} batches {dict(server.fates)}, calls {dict(server.calls)}"
        )
        return wrong if killed == kills else [*wrong, f"only {killed} kills"]


if __name__ == "__main__":
    if len(sys.argv) > 1:
        score_all(sys.argv[2], *map(int, sys.argv[3:5]))
    else:
        found = measure(5000, 20, 0.1, 500)
        print(*found or ["all as it should be"], sep="\n")
        sys.exit(bool(found))
