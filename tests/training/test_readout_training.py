"""Extraction in training: read-outs that learn beside the student, and are nowhere but in its checkpoints."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import datasets
import pytest
import torch
from builders import distill_trainer, examples, flat_weights, tiny_model
from killed_run import whole_and_resumed
from layered_models import PEFT_WARNS, Calls, distilbert, llama
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from tiers import mostly_slow
from transformers import AutoModelForMaskedLM, TrainerCallback

from hf_distill import ProgressiveDistillTrainer
from hf_distill.analysis.layer_similarity import layer_similarity_info
from hf_distill.reading.extractor import Extractor
from hf_distill.reading.layers import attended_rows, layer_tap
from hf_distill.tasks import ParityMlpConfig, ParityMlpForSequenceClassification
from hf_distill.teachers import LiveTeacher
from hf_distill.training.distill_state import STATE_NAME, DistillState

EXTRACTION = {"name": "extraction", "steps": 2}
SAVED = {"save_strategy": "steps", "save_steps": 1, "curriculum": EXTRACTION}


def teacher_model(head: str = "masked_lm", **overrides):
    depth = {"n_layer": 4} if head == "causal_lm" else {"num_hidden_layers": 4}
    return tiny_model(head, seed=7, **{**depth, **overrides})


def trainer_of(folder: Path, head: str = "masked_lm", **overrides) -> ProgressiveDistillTrainer:
    values = {"teacher": teacher_model(head), "curriculum": EXTRACTION, "max_steps": 6, **overrides}
    return distill_trainer(folder, head, **values)


def readouts(trainer: ProgressiveDistillTrainer) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in trainer.distillation.extractor.state_dict().items()}


class AtSteps(TrainerCallback):
    """Looks at something before each optimizer step."""

    def __init__(self, look) -> None:
        self.look = look
        self.seen = []

    def on_pre_optimizer_step(self, args, state, control, **kwargs) -> None:
        self.seen.append(self.look())


# ---- what a step computes and trains ----


def test_a_stage_computes_only_the_first_layers_of_both_models(tmp_path):
    teacher, student = teacher_model(), tiny_model("masked_lm", seed=1)
    trainer = trainer_of(tmp_path, model=student, teacher=teacher)
    trainer.add_callback(look := AtSteps(lambda: (ours.layers[:], ours.head, theirs.layers[:], theirs.head)))
    trainer.distillation.extractor.calibrated = True  # its forwards are counted in the next test
    ours, theirs = Calls(student), Calls(teacher)
    trainer.train()
    assert look.seen == [
        ([1, 0], 0, [1, 1, 0, 0], 0),
        ([2, 0], 0, [2, 2, 0, 0], 0),
        ([3, 1], 0, [3, 3, 1, 1], 0),
        ([4, 2], 0, [4, 4, 2, 2], 0),
        ([5, 3], 1, [5, 5, 3, 3], 1),
        ([6, 4], 2, [6, 6, 4, 4], 2),
    ]


def test_calibration_runs_no_student_and_no_head(tmp_path):
    teacher, student = teacher_model(), tiny_model("masked_lm", seed=1)
    trainer = trainer_of(tmp_path, model=student, teacher=teacher, curriculum={**EXTRACTION, "layers": [[1, 2]]})
    ours, theirs = Calls(student), Calls(teacher)
    trainer.distillation.begin(step=0, max_steps=6)
    trainer.calibrate_readouts()
    assert ours.layers == [0, 0]
    assert (theirs.layers, theirs.head) == ([1, 1, 0, 0], 0)


def test_a_stage_trains_its_layers_and_its_own_read_out_only(tmp_path):
    trainer = trainer_of(tmp_path, max_steps=5, curriculum={**EXTRACTION, "steps": 1})
    model, extractor = trainer.model, trainer.distillation.extractor
    names = [*(f"student {n}" for n, _ in model.named_parameters()), *(n for n, _ in extractor.named_parameters())]
    parameters = [*model.parameters(), *extractor.parameters()]
    trainer.add_callback(look := AtSteps(lambda: {n for n, p in zip(names, parameters, strict=True) if _moves(p)}))
    trainer.train()
    first, second, final = look.seen[:3]
    assert {name for name in first if not name.startswith("student")} == _readout_names("1_2")
    assert {name for name in second if not name.startswith("student")} == _readout_names("2_4")
    assert not {name for name in final if not name.startswith("student")}
    assert not any("layer.1" in name or "cls" in name for name in first)
    assert any("layer.0" in name for name in first)
    assert any("layer.1" in name for name in second)
    assert not any("cls" in name and "decoder" not in name for name in second)


def _moves(parameter: torch.Tensor) -> bool:
    return parameter.grad is not None and bool(parameter.grad.any())


def _readout_names(pair: str) -> set[str]:
    return {f"readouts.{pair}.weight", f"readouts.{pair}.bias"}


def test_read_outs_step_at_their_multiple_of_the_students_rate(tmp_path):
    trainer = trainer_of(tmp_path, max_steps=3, learning_rate=0.01, curriculum={**EXTRACTION, "steps": 1})
    (weight, _) = trainer.distillation.extractor.readouts["1_2"].parameters()
    own = next(p for n, p in trainer.model.named_parameters() if "layer.0.output.dense.weight" in n)
    trainer.add_callback(look := AtSteps(lambda: [(p.detach().clone(), p.grad) for p in (weight, own)]))
    trainer.train()
    for rate, index in ((0.1, 0), (0.01, 1)):
        (before, gradient), (after, _) = look.seen[0][index], look.seen[1][index]
        torch.testing.assert_close(after, before - rate * gradient, rtol=1e-5, atol=1e-7)


def test_student_and_read_outs_are_clipped_together(tmp_path):
    trainer = trainer_of(tmp_path, max_steps=5, max_grad_norm=0.05)
    parameters = [*trainer.model.parameters(), *trainer.distillation.extractor.parameters()]
    trainer.add_callback(look := AtSteps(lambda: [p.grad.norm() for p in parameters if p.grad is not None]))
    trainer.train()
    for norms in look.seen:
        assert torch.stack(norms).norm().item() == pytest.approx(0.05, rel=1e-3)
    assert trainer.state.log_history[0]["grad_norm"] > 0.05


def test_gradients_of_a_former_stage_do_not_move_its_read_out_again(tmp_path):
    trainer = trainer_of(tmp_path, max_steps=5)
    first = trainer.distillation.extractor.readouts["1_2"].weight
    trainer.add_callback(look := AtSteps(lambda: first.detach().clone()))
    trainer.train()
    assert not torch.equal(look.seen[0], look.seen[1])
    assert torch.equal(look.seen[2], look.seen[4])
    assert torch.equal(look.seen[2], first)


# ---- one denominator ----


@pytest.mark.parametrize("head", mostly_slow(["masked_lm", "causal_lm"], quick=lambda head: head == "masked_lm"))
@pytest.mark.parametrize("stage", [0, 1])
def test_splitting_a_batch_changes_neither_the_students_nor_the_read_outs_update(tmp_path, head, stage):
    updates = []
    for size, steps in [(8, 1), (2, 4), (1, 8)]:
        trainer = trainer_of(
            tmp_path / str(steps),
            head,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=steps,
            max_steps=2,
            learning_rate=1.0,
            curriculum={"name": "extraction", "steps": 1, "layers": [[stage + 1, 2 * stage + 1]]},
        )
        models = torch.nn.ModuleList([trainer.model, trainer.distillation.extractor])
        trainer.add_callback(look := AtSteps(lambda models=models: flat_weights(models)))
        trainer.train()
        updates.append(look.seen[1] - look.seen[0])
    for update in updates[1:]:
        assert update.norm() > 1e-4
        assert (update.norm() / updates[0].norm()).item() == pytest.approx(1.0, abs=1e-5)
        assert torch.nn.functional.cosine_similarity(update, updates[0], dim=0).item() > 0.99999


# ---- which models ----


def lora() -> torch.nn.Module:
    config = LoraConfig(r=2, target_modules=["query", "value"])
    return get_peft_model(tiny_model("masked_lm", seed=1), config)


@pytest.mark.parametrize(
    ("student", "teacher", "head"),
    mostly_slow(
        [
            (distilbert, teacher_model, "masked_lm"),
            (llama, lambda: teacher_model("causal_lm"), "causal_lm"),
            (lambda: tiny_model("causal_lm", seed=1), llama, "causal_lm"),
            pytest.param(lora, teacher_model, "masked_lm", marks=PEFT_WARNS),
        ],
        quick=lambda student, teacher, head: student is distilbert,
    ),
    ids=["distilbert from bert", "llama from gpt2", "gpt2 from llama", "lora from bert"],
)
@pytest.mark.filterwarnings("ignore:.*:UserWarning")
def test_models_of_other_kinds_learn_from_each_other(tmp_path, student, teacher, head):
    trainer = trainer_of(
        tmp_path,
        head,
        model=student(),
        teacher=teacher(),
        max_steps=40,
        learning_rate=0.02,
        curriculum={"name": "extraction", "steps": 30, "layers": [[1, 1]]},
        per_device_train_batch_size=8,
    )
    before = flat_weights(trainer.model)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[29] < 0.8 * losses[0]
    assert not torch.equal(flat_weights(trainer.model), before)


def test_the_parity_network_learns_its_teachers_hidden_layer(tmp_path):
    def network(width: int) -> ParityMlpForSequenceClassification:
        return ParityMlpForSequenceClassification(ParityMlpConfig(input_size=6, width=width, num_labels=2))

    signs = torch.randn(64, 6, generator=torch.Generator().manual_seed(0)).sign()
    rows = [{"inputs": row, "labels": (row[:2].prod() < 0).long()} for row in signs]
    trainer = trainer_of(
        tmp_path,
        "classification",
        model=network(8),
        teacher=network(20),
        train_dataset=rows,
        max_steps=41,
        learning_rate=0.3,
        per_device_train_batch_size=64,
        curriculum={"name": "extraction", "steps": 40},
    )
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert 0.9 < losses[0] < 1.6
    assert losses[39] < 0.5 * losses[0]


# ---- calibration ----


def test_targets_are_standardised_on_attended_positions_of_the_first_examples(tmp_path):
    trainer = trainer_of(tmp_path, curriculum={**EXTRACTION, "calibration_examples": 6})
    trainer.train()
    extractor, rows = trainer.distillation.extractor, examples("masked_lm")[:6]
    batch = {key: torch.stack([row[key] for row in rows]) for key in ("input_ids", "attention_mask")}
    for pair in extractor.pairs:
        states = trainer.teacher.hidden_states(batch, [pair.teacher])[pair.teacher]
        target = extractor.target(pair, attended_rows(states, batch["attention_mask"]))
        torch.testing.assert_close(target.mean(0), torch.zeros(16), rtol=0, atol=1e-4)
        torch.testing.assert_close(target.std(0, correction=0), torch.ones(16), rtol=1e-4, atol=0)


def test_columns_that_no_model_reads_do_not_reach_the_collator(tmp_path):
    rows = [{key: value.tolist() for key, value in row.items()} | {"text": "words"} for row in examples("masked_lm")]
    trainer = trainer_of(tmp_path, train_dataset=datasets.Dataset.from_list(rows))
    trainer.train()
    assert trainer.distillation.extractor.calibrated


class Stream(torch.utils.data.IterableDataset):
    def __iter__(self):
        return iter(examples("masked_lm", count=40))


def test_a_stream_is_calibrated_on_its_first_examples(tmp_path):
    whole = trainer_of(tmp_path / "a", train_dataset=examples("masked_lm", count=40)[:10])
    stream = trainer_of(tmp_path / "b", train_dataset=Stream(), curriculum={**EXTRACTION, "calibration_examples": 10})
    for trainer in (whole, stream):
        trainer.train()
    ours, theirs = (readouts(trainer)["mean_1_2"] for trainer in (whole, stream))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


class NoisyStream(Stream):
    def __iter__(self):
        torch.rand(5)
        return super().__iter__()


@pytest.mark.parametrize("data", [examples("masked_lm"), NoisyStream()], ids=["rows", "stream"])
def test_calibration_does_not_move_the_random_state_of_training(tmp_path, data):
    def masking(rows):
        torch.rand(3)
        return {key: torch.stack([row[key] for row in rows]) for key in rows[0]}

    trainer = trainer_of(tmp_path, data_collator=masking, train_dataset=data)
    trainer.distillation.begin(step=0, max_steps=6)
    state = torch.random.get_rng_state()
    trainer.calibrate_readouts()
    assert trainer.distillation.extractor.calibrated
    assert torch.equal(torch.random.get_rng_state(), state)


# ---- checkpoints ----


def test_a_checkpoint_has_the_read_outs_and_the_exported_student_nothing_of_them(tmp_path):
    trainer = trainer_of(tmp_path / "run", **SAVED)
    trainer.train()
    stored = load_file(tmp_path / "run" / "checkpoint-6" / Extractor.file_name)
    assert all(torch.equal(stored[name], value) for name, value in readouts(trainer).items())
    trainer.save_model(str(tmp_path / "student"))
    names = {path.name for path in (tmp_path / "student").iterdir()}
    assert names == {"config.json", "model.safetensors", "training_args.bin"}
    stock = tiny_model("masked_lm")
    stock.save_pretrained(tmp_path / "stock")
    for folder in (tmp_path / "student", tmp_path / "run" / "checkpoint-6"):
        assert load_file(folder / "model.safetensors").keys() == load_file(tmp_path / "stock/model.safetensors").keys()
        _, info = AutoModelForMaskedLM.from_pretrained(folder, output_loading_info=True)
        assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))


def test_resuming_without_the_read_outs_is_refused(tmp_path):
    trainer_of(tmp_path, **SAVED).train()
    (tmp_path / "checkpoint-6" / Extractor.file_name).unlink()
    with pytest.raises(ValueError, match=f"checkpoint-6 has no {Extractor.file_name}"):
        trainer_of(tmp_path, **SAVED).train(resume_from_checkpoint=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fields", "step"),
    [({}, 4), ({}, 7), ({}, 11), ({"layers": "cka"}, 7), ({"readout": False}, 7)],
    ids=lambda value: str(value),
)
def test_a_killed_extraction_resumes_bitwise(tmp_path, fields, step):
    undisturbed, resumed = whole_and_resumed(tmp_path, {"name": "extraction", "steps": 5, **fields}, step)
    assert resumed.state.global_step == 16
    assert resumed.distillation.found_layers == undisturbed.distillation.found_layers
    for ours, theirs in (
        (resumed.model.state_dict(), undisturbed.model.state_dict()),
        (readouts(resumed), readouts(undisturbed)),
    ):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


# ---- optimizers ----


def test_an_optimizer_that_does_not_know_the_read_outs_is_refused(tmp_path):
    """The read-outs would stay as they were drawn, and the student would learn towards noise."""
    model = tiny_model("masked_lm", seed=1)
    trainer = trainer_of(tmp_path, model=model)
    trainer.optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    refusal = "does not train the extraction's read-outs or projectors; choose it with `optim`"
    with pytest.raises(ValueError, match=refusal):
        trainer.train()


def test_without_read_outs_any_optimizer_will_do(tmp_path):
    model = tiny_model("masked_lm", seed=1)
    trainer = trainer_of(tmp_path, model=model, curriculum={**EXTRACTION, "readout": False})
    trainer.optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trainer.train()
    assert trainer.readout_parameters() == []
    assert trainer.state.global_step == 6


def test_other_curricula_have_no_read_outs(tmp_path):
    trainer = trainer_of(tmp_path, curriculum="one_shot", max_steps=1, save_strategy="steps", save_steps=1)
    trainer.train()
    assert trainer.readout_parameters() == []
    assert not (tmp_path / "checkpoint-1" / Extractor.file_name).exists()
    assert len(trainer.optimizer.param_groups) == 2


# ---- the map found by CKA ----

CKA = {**EXTRACTION, "layers": "cka"}


def pruned(teacher, keep: list[int]):
    """A student made of some of its teacher's layers."""
    student = copy.deepcopy(teacher)
    layers = student.bert.encoder.layer
    student.bert.encoder.layer = torch.nn.ModuleList([layers[index] for index in keep])
    student.config.num_hidden_layers = len(keep)
    return student.requires_grad_(True).train()


def test_the_map_is_that_of_the_models_before_training(tmp_path):
    teacher = teacher_model()
    student = pruned(teacher, [0, 1])
    batch = {k: torch.stack([row[k] for row in examples("masked_lm")]) for k in ("input_ids", "attention_mask")}
    states = []
    for model, depth in ((student, 2), (teacher, 4)):
        model.eval()
        with torch.no_grad(), layer_tap(model, range(1, depth + 1), stop=True) as seen:
            model(**batch)
        states.append([attended_rows(seen[layer], batch["attention_mask"]) for layer in range(1, depth + 1)])
    trainer = trainer_of(tmp_path, model=student, teacher=teacher, curriculum=CKA)
    trainer.train()
    expected = [list(pair) for pair in layer_similarity_info(*states).monotone_map()]
    assert trainer.distillation.found_layers == expected == [[1, 1], [2, 2]]
    names = [stage.name for stage in trainer.distillation.plan.stages]
    assert names == ["layer 1 ← 1", "layer 2 ← 2", "final"]


def test_a_resumed_run_keeps_the_map_it_had_and_does_not_look_for_it_again(tmp_path):
    teacher = teacher_model()
    trainer_of(tmp_path, model=pruned(teacher, [0, 1]), teacher=teacher, **{**SAVED, "curriculum": CKA}).train()
    state = DistillState.load(tmp_path / "checkpoint-3")
    assert state.layers == [[1, 1], [2, 2]]
    resumed = trainer_of(tmp_path, model=pruned(teacher, [2, 3]), teacher=teacher, **{**SAVED, "curriculum": CKA})
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert resumed.distillation.found_layers == [[1, 1], [2, 2]]
    assert [tuple(pair) for pair in resumed.distillation.extractor.pairs] == [(1, 1), (2, 2)]
    fresh = trainer_of(tmp_path / "fresh", model=pruned(teacher, [2, 3]), teacher=teacher, curriculum=CKA)
    fresh.find_layer_map()
    assert fresh.distillation.found_layers != [[1, 1], [2, 2]]


def test_the_state_of_other_runs_has_no_map(tmp_path):
    trainer_of(tmp_path, **SAVED).train()
    assert json.loads((tmp_path / "checkpoint-6" / STATE_NAME).read_text())["layers"] is None


# ---- refused at construction ----


def test_a_teacher_that_gives_no_hidden_states_is_refused(tmp_path):
    class LogitsOnly(LiveTeacher):
        provides = frozenset({"teacher.logits"})

    with pytest.raises(ValueError, match="LogitsOnly provides only"):
        trainer_of(tmp_path, teacher=LogitsOnly(teacher_model()))


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"layers": [[3, 1]]}, "the student has layers 1 to 2 and the teacher 1 to 4"),
        ({"layers": [[1, 5]]}, "the student has layers 1 to 2 and the teacher 1 to 4"),
        ({"readout": False, "dimensions": 4}, "student's width 16, not 4 dimensions"),
    ],
    ids=str,
)
def test_bad_settings_are_refused_before_any_training(tmp_path, fields, match):
    with pytest.raises(ValueError, match=match):
        trainer_of(tmp_path, curriculum={**EXTRACTION, **fields})


@pytest.mark.parametrize("head", ["masked_lm", "causal_lm", "classification"])
def test_a_data_set_without_one_label_is_refused_before_training(tmp_path, head):
    data = [{**example, "labels": torch.full_like(example["labels"], -100)} for example in examples(head)]
    trainer = distill_trainer(tmp_path, head, train_dataset=data)
    before = flat_weights(trainer.model)
    with pytest.raises(ValueError, match="not one labelled item"):
        trainer.train()
    assert torch.equal(flat_weights(trainer.model), before)


def test_labels_that_begin_late_in_the_data_are_found(tmp_path):
    labelled, count = examples("classification", count=1), 700
    bare = {**labelled[0], "labels": torch.full_like(labelled[0]["labels"], -100)}
    sparse = [bare] * (count - 3) + [labelled[0]] * 3
    distill_trainer(tmp_path, train_dataset=sparse).refuse_unlabelled_data()
    with pytest.raises(ValueError, match="up to 256 examples spread over the training data have not one labelled"):
        distill_trainer(tmp_path, train_dataset=[bare] * count).refuse_unlabelled_data()


@pytest.mark.parametrize("count", [1, 255, 256, 257, 1000])
def test_labels_are_looked_for_in_examples_spread_evenly(tmp_path, count):
    asked = []

    class Noted(torch.utils.data.Dataset):
        def __len__(self):
            return count

        def __getitem__(self, place):
            asked.append(place)
            return {**example, "labels": torch.full_like(example["labels"], -100)}

    [example] = examples("classification", count=1)
    with pytest.raises(ValueError, match="not one labelled item"):
        distill_trainer(tmp_path, train_dataset=Noted()).refuse_unlabelled_data()
    assert len(set(asked)) == len(asked) == min(count, 256)
    gaps = [after - before for before, after in zip(asked, [*asked[1:], count], strict=True)]
    assert asked[0] == 0
    assert max(gaps) - min(gaps) <= 1


def test_looking_for_labels_does_not_move_the_random_state_of_training(tmp_path):
    trainer = distill_trainer(tmp_path)
    state = torch.get_rng_state()
    trainer.refuse_unlabelled_data()
    assert torch.equal(torch.get_rng_state(), state)
