"""lm-eval is asked where it is installed, and where it is not, the message says what to do."""

from __future__ import annotations

import importlib.util
import json

import pytest
from analysed_run import text_run

from hf_distill.evaluation.harness import check_harness, harness_scores

INSTALLED = importlib.util.find_spec("lm_eval") is not None
TASK = """
task: cats
dataset_path: json
dataset_kwargs: {data_files: {test: DATA}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{q}}"
doc_to_target: "{{gold}}"
doc_to_choice: "{{choices}}"
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
"""


@pytest.mark.skipif(INSTALLED, reason="lm-eval is installed")
def test_without_the_package_the_message_says_what_to_install():
    with pytest.raises(ValueError, match=r"lm-eval is not installed; `pip install 'hf-distill\[lm-eval\]'`"):
        check_harness(["hellaswag"], head="causal_lm")


def test_another_head_is_refused():
    with pytest.raises(ValueError, match="causal language models, this run's head is masked_lm"):
        check_harness(["hellaswag"], head="masked_lm")


@pytest.mark.slow
@pytest.mark.skipif(not INSTALLED, reason="lm-eval is not installed")
def test_a_task_of_ones_own_is_asked_and_an_unknown_one_refused(tmp_path):
    data, tasks = tmp_path / "data.jsonl", tmp_path / "tasks"
    tasks.mkdir()
    rows = [{"q": "the cat sat on", "choices": [" the mat", " a dog"], "gold": place % 2} for place in range(6)]
    data.write_text("\n".join(map(json.dumps, rows)))
    (tasks / "cats.yaml").write_text(TASK.replace("DATA", str(data)))
    run = text_run(tmp_path / "run", "causal_lm", steps=(10,), students=("labels",), seeds=(0,))
    model = next(run.students()).model
    ask = {"batch_size": 2, "limit": 4, "include_path": tasks}
    found = harness_scores(model, run.data.tokenizer, ["cats"], **ask)
    assert found["cats"]["acc"] == 0.5, "one answer for all, and two of four are right"
    assert "acc_stderr" in found["cats"]
    with pytest.raises(ValueError, match="knows no task 'nonsense'"):
        harness_scores(model, run.data.tokenizer, ["nonsense"], **ask)
