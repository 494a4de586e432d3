"""Every program's flags and their defaults: what users have typed goes on to work."""

import ast
import subprocess
from importlib import import_module
from pathlib import Path

import pytest

from persona_vectors.cli.values import in_words, shown

ROOT = Path(__file__).resolve().parents[1]

# name: required; name=default as one would type it; name=: none; *name: any number of words
TABLE = """
    download_hf_models:
        model_name=Qwen/Qwen3-1.7B local_dir= revision=main
    generate_vec:
        model_name pos_path neg_path trait save_dir threshold=50 dtype=auto trust_remote_code=false
        chat_template= load_in_4bit=false token_budget= pair_by=question_id shuffled=0 min_coherence=50
        overwrite=false
    share_vectors export:
        vectors output_dir format=gguf layer= model_name= coef=1
    share_vectors import:
        vectors save_dir trait= kind=response_avg_diff model_name=
    share_vectors combine:
        output_path add= subtract= average= orthogonal_to= overwrite=false
    share_vectors push:
        vectors repo_id results_dir= model_name= private=false dry_run=false
    share_vectors pull:
        repo_id save_dir revision=main model_name=
    training:
        config *changes resume=false overwrite=false
    eval.cal_projection:
        file_path vector_path= layer= model_name=Qwen/Qwen2.5-7B-Instruct projection_type=proj overwrite=false
        vector_path_list= layer_list= base_model= dtype=auto trust_remote_code=false chat_template=
        load_in_4bit=false token_budget= enable_thinking=false
    eval.capability:
        model output coef=0 vector_path= layer= steering_type=response controls=0 control=random steering= dose=
        tasks=kl,perplexity,refusals task_dir= limit= num_fewshot= apply_chat_template=false harmless_path=
        harmful_path= max_tokens=64 batch_size=8 overwrite=false backend=hf dtype=auto trust_remote_code=false
        chat_template= load_in_4bit=false
    eval.chat:
        model vectors port=7860 host=127.0.0.1 kind=response_avg_diff terminal=false steering=
        dtype=auto trust_remote_code=false chat_template= load_in_4bit=false
    eval.dry_run:
        plan max_cost=
    eval.eval_persona:
        model trait output_path coef=0 vector_path= layer= steering_type=response controls=0 control=random
        steering= dose= questions= n_questions= max_tokens=1000 seed=0 enable_thinking=false n_per_question=10
        batch_process=true persona_instruction_type= assistant_name= judge_model=gpt-4.1-mini-2025-04-14
        max_concurrent_judges=100 scorer= scorer_pairs= coherence_prompt= no_cache=false judge_batch=false
        dry_run=false max_cost= prices= version=extract overwrite=false trait_dir=data_generation backend=auto
        batch_size=64 tensor_parallel_size= data_parallel_size= gpu_memory_utilization= pipeline_parallel_size=
        distributed_executor_backend= dtype=auto trust_remote_code=false chat_template= load_in_4bit=false
        all_checkpoints=false
    eval.compare:
        *file_path trait= output=comparison seed=0
    eval.finetuning_shift:
        base_model model_list trait vector_path layer output=finetuning_shift answers= trait_dir=data_generation
        dtype=auto trust_remote_code=false chat_template= load_in_4bit=false token_budget= enable_thinking=false
        overwrite=false
    eval.mitigation random:
        vector_path output_path seed=0 overwrite=false
    eval.mitigation report:
        folder output=
    eval.monitor:
        model trait vector_path layer output_dir kind=system_prompts pos_path= neg_path= shots=0,5,10,15,20
        steering= min_coherence=50 max_tokens=1000 seed=0 enable_thinking=false n_per_question=10
        judge_model=gpt-4.1-mini-2025-04-14 max_concurrent_judges=100 scorer= scorer_pairs= coherence_prompt=
        no_cache=false judge_batch=false dry_run=false max_cost= prices= overwrite=false
        trait_dir=data_generation backend=auto batch_size=64 tensor_parallel_size= data_parallel_size=
        gpu_memory_utilization= dtype=auto trust_remote_code=false chat_template= load_in_4bit=false
    eval.projection_difference:
        file_path vector_path layer model_name output_dir base_answers= estimate=full sample=200 select= k=500
        filter_above= shift_path= shift_model={set} max_tokens=1000 seed=0 enable_thinking=false backend=auto
        batch_size=64 tensor_parallel_size= data_parallel_size= gpu_memory_utilization= dtype=auto
        trust_remote_code=false chat_template= load_in_4bit=false token_budget= overwrite=false dry_run=false
    eval.report:
        model trait folder steering= mitigation= output= quality=
    eval.search:
        model trait vector_path output_path dose=0.1,1.2 layer= trials=16 min_coherence=75 max_kl=
        steering_type=response n_questions= max_tokens=1000 seed=0 enable_thinking=false n_per_question=10
        judge_model=gpt-4.1-mini-2025-04-14 max_concurrent_judges=100 scorer= scorer_pairs= coherence_prompt=
        no_cache=false judge_batch=false overwrite=false trait_dir=data_generation backend=auto batch_size=64
        tensor_parallel_size= data_parallel_size= gpu_memory_utilization= dtype=auto trust_remote_code=false
        chat_template= load_in_4bit=false
    eval.select_layer:
        file_path trait min_coherence=75 output= capability=
    eval.judge:
        file_path prompt_file= name= trait= kind=0_100 judge_model=gpt-4.1-mini-2025-04-14
        max_concurrent_judges=100 scorer= scorer_pairs= coherence_prompt= no_cache=false judge_batch=false
        version=extract overwrite=false trait_dir=data_generation dtype=auto trust_remote_code=false
        chat_template= load_in_4bit=false
    eval.sentiment:
        file_path trait
    eval.serve:
        model vectors port=8000 host=127.0.0.1 kind=response_avg_diff slots=1024 ablations=0 vllm_flags=
        dtype=auto trust_remote_code=false chat_template= load_in_4bit=false
    eval.vector_similarity:
        vector_path layer output=vector_similarity
    persona_vectors.bake:
        model output_dir vector_path= layer= coef=1 dtype=auto steering=
    data_generation.from_answers:
        file_path trait output_dir= normal_below=10 level_1=30,60 level_2_above=80 coherence_above=75
        overwrite=false trait_dir=data_generation
    data_generation.generate_dataset:
        trait model questions= description= output_dir=dataset levels=normal,misaligned_1,misaligned_2
        n_per_question=1 max_tokens=2000 max_concurrent=20 allow_missing=false dry_run=false max_cost= prices=
        overwrite=false trait_dir=data_generation
    data_generation.generate_trait:
        trait description model question_instruction= output_dir=data_generation overwrite=false
        max_tokens=16000 attempts=5
    data_generation.make_dataset:
        output_path=dataset.zip
    data_generation.validate:
        *paths
    data_generation.toy.build_model:
        output_dir=models/toy seed=0
    data_generation.toy.judge_server:
        port=0 port_file= latency=0
    eval.vector_quality:
        model vector_path pos_path neg_path trait against= sweep= prompt_path= capability= min_coherence=75
        threshold=50
        dtype=auto trust_remote_code=false chat_template= load_in_4bit=false token_budget= pair_by=question_id
        seed=0 output= record_norms=false
    eval.judge_agreement:
        columns file_path= pos_path= neg_path= model_name= threshold=50 output=judge_agreement seed=0 dtype=auto
        trust_remote_code=false chat_template= load_in_4bit=false token_budget=
    eval.label:
        file_path trait output_path= pairs= min_difference=60 seed=0 port=7861 host=127.0.0.1 overwrite=false
        trait_dir=data_generation
"""
# of the published toolkit: what is above and is not here is ours
PUBLISHED = {
    "download_hf_models": "model_name=Qwen/Qwen3-1.7B local_dir=models/Qwen/Qwen3-1.7B",
    "generate_vec": "model_name pos_path neg_path trait save_dir threshold=50",
    "eval.eval_persona": "model trait output_path coef=0 vector_path= layer= steering_type=response max_tokens=1000 "
    "n_per_question=10 batch_process=true max_concurrent_judges=100 persona_instruction_type= assistant_name= "
    "judge_model=gpt-4.1-mini-2025-04-14 version=extract overwrite=false",
    "eval.cal_projection": "file_path vector_path_list= layer_list= projection_type=proj model_name=Qwen/Qwen2.5-7B-Instruct "
    "base_model= overwrite=false",
    "training": "config",
}


def read_table() -> dict[str, dict[str, str | None]]:
    """{program: {flag: default as typed; None where it is required}}."""
    table: dict[str, dict] = {}
    for line in TABLE.strip().splitlines():
        if line.endswith(":"):
            flags = table.setdefault(line.strip(" :"), {})
        else:
            flags |= {name: default if equals else None for name, equals, default in map(parted, line.split())}
    return table


def parted(word: str) -> tuple[str, str, str]:
    return word.partition("=")


def program(name: str):
    """The function of a program, or of one of its commands."""
    module, _, command = name.partition(" ")
    return getattr(import_module(module), {"": "main", "import": "import_"}.get(command, command))


@pytest.mark.parametrize("name", read_table())
def test_flags_and_defaults_are_those_of_the_table(name):
    flags = {}
    for flag in program(name).flags.values():
        stars = "*" if flag.kind is flag.VAR_POSITIONAL else ""
        flags[f"{stars}{flag.name}"] = None if flag.default is flag.empty else shown(flag.default)
    assert flags == read_table()[name]


@pytest.mark.parametrize("name", read_table())
def test_help_has_a_text_for_every_flag_and_no_internal_type(name):
    from persona_vectors.cli.command import _help, section

    flags = program(name).flags
    texts = section(_help(program(name)), "Args")
    assert set(texts) == set(flags)
    for flag in flags.values():
        assert in_words(flag.annotation).startswith(("text", "one ", "whole number", "number", "true or false")), flag


def test_required_flags_of_a_program_come_in_their_order():
    for name, flags in read_table().items():
        required = [flag for flag, default in flags.items() if default is None and not flag.startswith("*")]
        found = [flag.name for flag in program(name).flags.values() if flag.default is flag.empty]
        assert [flag for flag in found if flag in required] == required, name


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_flags_are_there(name):
    ours = read_table()[name]
    for flag, equals, default in map(parted, PUBLISHED[name].split()):
        assert flag in ours
        if (
            flag != "local_dir"
        ):  # by default models/<model_name>, which is the published default for the published model
            assert ours[flag] == (default if equals else None), flag


def programs() -> list[Path]:
    """Every file of the toolkit that can be run."""
    listed = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    files = [ROOT / name for name in listed.splitlines() if not name.startswith("tests/")]
    return [path for path in files if path.exists() and '__name__ == "__main__"' in path.read_text()]


def test_every_program_starts_in_one_way():
    assert len(programs()) > 30
    for path in programs():
        last = ast.parse(path.read_text()).body[-1]
        calls = [ast.unparse(node.func) for node in ast.walk(last) if isinstance(node, ast.Call)]
        assert isinstance(last, ast.If) and {"cli.run", "cli.run_one_of"} & set(calls), path
        assert "fire" not in {
            alias.name for node in ast.walk(last) if isinstance(node, ast.Import) for alias in node.names
        }


def test_a_main_is_read_in_one_go():
    """At most sixty lines, signature included, docstring not."""
    for path in programs():
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and (node.name == "main" or node.decorator_list):
                first = node.body[0]
                said = first.end_lineno - first.lineno + 1 if ast.get_docstring(node) else 0
                assert node.end_lineno - node.lineno + 1 - said <= 60, f"{path}: {node.name}"
