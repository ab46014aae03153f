"""A model split at its head gives the logits that it would have given itself, and refuses where it would not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from builders import VOCABULARY, examples, tiny_model
from head_cases import assert_same
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from hf_distill.kernels import LogitRows, RowTerm, dense_loss, tiled_loss
from hf_distill.kernels.head_rows import HeadRows
from hf_distill.kernels.heads import Head, after_head, split_head
from hf_distill.objectives import ForwardKL

COMMON = {
    "vocab_size": VOCABULARY, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
    "intermediate_size": 24, "max_position_embeddings": 32, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    "initializer_range": 0.3,
}  # fmt: skip
GEMMA = {"head_dim": 8, "num_key_value_heads": 1, "final_logit_softcapping": 2.0}
BART = {
    "vocab_size": VOCABULARY, "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "max_position_embeddings": 32,
}  # fmt: skip
T5 = {"vocab_size": VOCABULARY, "d_model": 16, "d_ff": 24, "num_layers": 1, "num_heads": 2, "d_kv": 8}
DISTILBERT = {"vocab_size": VOCABULARY, "dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 24}
GPT2 = {"vocab_size": VOCABULARY, "n_embd": 16, "n_layer": 1, "n_head": 2}
PEFT_WARNS = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bert": ("BertForMaskedLM", "BertConfig", COMMON),
    "roberta": ("RobertaForMaskedLM", "RobertaConfig", COMMON),
    "distilbert": ("DistilBertForMaskedLM", "DistilBertConfig", DISTILBERT),
    "electra": ("ElectraForMaskedLM", "ElectraConfig", {**COMMON, "embedding_size": 12}),
    "albert": ("AlbertForMaskedLM", "AlbertConfig", {**COMMON, "embedding_size": 12}),
    "deberta": ("DebertaV2ForMaskedLM", "DebertaV2Config", COMMON),
    "modernbert": ("ModernBertForMaskedLM", "ModernBertConfig", {**COMMON, "cls_token_id": 1, "sep_token_id": 2}),
    "gpt2": ("GPT2LMHeadModel", "GPT2Config", GPT2),
    "gptj": ("GPTJForCausalLM", "GPTJConfig", {**GPT2, "rotary_dim": 4}),
    "llama": ("LlamaForCausalLM", "LlamaConfig", COMMON),
    "qwen2": ("Qwen2ForCausalLM", "Qwen2Config", {**COMMON, "num_key_value_heads": 2}),
    "pythia": ("GPTNeoXForCausalLM", "GPTNeoXConfig", COMMON),
    "phi": ("PhiForCausalLM", "PhiConfig", COMMON),
    "gemma2": ("Gemma2ForCausalLM", "Gemma2Config", {**COMMON, **GEMMA}),
    "cohere": ("CohereForCausalLM", "CohereConfig", {**COMMON, "logit_scale": 0.3}),
    "granite": ("GraniteForCausalLM", "GraniteConfig", {**COMMON, "logits_scaling": 5.0}),
    "t5": ("T5ForConditionalGeneration", "T5Config", {**T5, "decoder_start_token_id": 0}),
    "bart": ("BartForConditionalGeneration", "BartConfig", BART),
    "marian": ("MarianMTModel", "MarianConfig", {**BART, "pad_token_id": 0, "decoder_start_token_id": 0}),
}  # fmt: skip


def build(name: str, **overrides: Any) -> nn.Module:
    torch.manual_seed(0)
    model, config, values = MODELS[name]
    return getattr(transformers, model)(getattr(transformers, config)(**{**values, **overrides})).eval()


def batch_for(model: nn.Module) -> dict[str, Tensor]:
    ids = torch.randint(3, VOCABULARY, (2, 7), generator=torch.Generator().manual_seed(0))
    return {"input_ids": ids, **({"decoder_input_ids": ids[:, :5]} if model.config.is_encoder_decoder else {})}


def all_rows(hidden: Tensor, head: Head) -> HeadRows:
    return head.rows(hidden.flatten(0, -2))


@pytest.mark.parametrize("name", sorted(MODELS))
def test_no_model_computes_other_logits_than_its_rows_give(name):
    model = build(name)
    for buffer_name, buffer in model.named_buffers():
        if buffer_name == "final_logits_bias":
            torch.nn.init.normal_(buffer)
    batch = batch_for(model)
    whole = model(**batch).logits
    rows = split_head(model).read(lambda: model(**batch), all_rows)
    assert whole.shape == (2, whole.shape[1], VOCABULARY)
    torch.testing.assert_close(rows.logits().view_as(whole), whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["bert", "gemma2"])
def test_the_head_runs_on_one_position_and_is_whole_again_afterwards(name):
    model, outputs = build(name), []
    batch = batch_for(model)
    split_head(model).read(lambda: outputs.append(model(**batch)) or outputs[0], all_rows)
    assert outputs[0].logits.shape == (1, 1, VOCABULARY)
    assert model(**batch).logits.shape == (2, 7, VOCABULARY)


@pytest.mark.parametrize("name", ["gpt2", "bert", "gemma2", "t5", "marian", "bart"])
def test_no_parameter_misses_its_gradient_above_all_not_a_tied_head(name):
    """The head's weight is the embedding's: its gradient has a part from either side."""
    model = build(name, tie_word_embeddings=True).double()
    batch, terms = batch_for(model), [RowTerm(objective=ForwardKL())]
    rows = batch.get("decoder_input_ids", batch["input_ids"]).numel()
    teacher = LogitRows.of(torch.randn(rows, VOCABULARY, generator=torch.Generator().manual_seed(1)).double())
    gradients = []
    for way, more in ((dense_loss, {}), (tiled_loss, {"budget_bytes": 5 * VOCABULARY * 16})):
        model.zero_grad()
        rows = split_head(model).read(lambda: model(**batch), all_rows)
        way(rows, terms, teacher=teacher, **more).loss.backward()
        gradients.append([torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad])])
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert_same(gradients[1], gradients[0], within=1e-12)


@PEFT_WARNS
def test_adapters_on_the_body_train_and_the_frozen_head_gets_no_gradient():
    config = LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"], init_lora_weights=False)
    model = get_peft_model(build("llama"), config)
    batch = batch_for(model)
    whole = model(**batch).logits
    rows = split_head(model).read(lambda: model(**batch), all_rows)
    torch.testing.assert_close(rows.logits().view_as(whole), whole, rtol=1e-5, atol=1e-5)
    tiled_loss(
        rows, [RowTerm(objective=ForwardKL())], teacher=LogitRows.of(torch.zeros(14, VOCABULARY))
    ).loss.backward()
    assert rows.weight_VH.grad is None
    assert all(p.grad is not None and p.grad.any() for p in model.parameters() if p.requires_grad)


@PEFT_WARNS
def test_a_head_that_is_trained_whole_beside_adapters_is_the_one_that_is_read():
    config = LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"], modules_to_save=["lm_head"])
    model = get_peft_model(build("llama"), config)
    batch = batch_for(model)
    rows = split_head(model).read(lambda: model(**batch), all_rows)
    assert rows.weight_VH.requires_grad
    torch.testing.assert_close(rows.logits().view(2, 7, -1), model(**batch).logits, rtol=1e-5, atol=1e-5)


@PEFT_WARNS
def test_an_adapter_on_the_head_is_refused_and_switched_off_it_is_not():
    config = LoraConfig(task_type="CAUSAL_LM", target_modules=["lm_head"], init_lora_weights=False)
    model = get_peft_model(build("llama"), config)
    batch = batch_for(model)
    with pytest.raises(ValueError, match="leave the head out of the adapter's target modules"):
        split_head(model).read(lambda: model(**batch), all_rows)
    with model.disable_adapter():
        rows = split_head(model).read(lambda: model(**batch), all_rows)
        torch.testing.assert_close(rows.logits().view(2, 7, -1), model(**batch).logits, rtol=1e-5, atol=1e-5)


def test_a_wrapper_for_several_ranks_is_called_and_its_gradients_are_complete(tmp_path):
    distributed, teacher = torch.distributed, LogitRows.of(torch.zeros(14, VOCABULARY))

    def gradients_of(model: nn.Module) -> list[Tensor | None]:
        rows = split_head(model).read(lambda: model(**batch_for(build("gpt2"))), all_rows)
        tiled_loss(rows, [RowTerm(objective=ForwardKL())], teacher=teacher).loss.backward()
        return [parameter.grad for parameter in model.parameters()]

    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/ranks", rank=0, world_size=1)
    try:
        # No name holds the wrapper: were it the last to let the group go, gloo's thread could hang the interpreter.
        wrapped = gradients_of(DistributedDataParallel(build("gpt2")))
    finally:
        distributed.destroy_process_group()
    assert_same(wrapped, gradients_of(build("gpt2")), within=1e-6)


def test_autocast_of_the_forward_reaches_what_is_computed_at_the_head():
    model = build("llama")
    batch = batch_for(model)

    def forward():
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return model(**batch)

    def at_head(hidden: Tensor, head: Head) -> torch.dtype:
        return all_rows(hidden, head).logits().dtype

    assert split_head(model).read(forward, at_head) == torch.bfloat16


def test_a_model_without_a_vocabulary_head_is_refused():
    with pytest.raises(ValueError, match="use its whole logits"):
        split_head(tiny_model("classification"))
    with pytest.raises(ValueError, match="holds no transformers model"):
        split_head(nn.Linear(2, 2))


class Masking(transformers.GPT2LMHeadModel):
    """Hides an id behind the head, as Chameleon does with its image tokens."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        output = super().forward(*args, **kwargs)
        output.logits[..., 3] = -1e4
        return output


class Twice(transformers.GPT2LMHeadModel):
    """Reads its head twice in a forward."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        super().forward(*args, **kwargs)
        return super().forward(*args, **kwargs)


class Never(transformers.GPT2LMHeadModel):
    """Has a head that it does not call."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.transformer(*args, **kwargs)


@pytest.mark.parametrize(
    ("kind", "message"),
    [(Masking, "not a scale, a soft cap or a bias"), (Twice, "more than once"), (Never, "never called")],
)
def test_a_model_whose_logits_are_more_than_its_head_is_refused(kind, message):
    model = kind(tiny_model("causal_lm").config).eval()
    batch = {"input_ids": examples("causal_lm")[0]["input_ids"][None]}
    with pytest.raises(ValueError, match=message):
        split_head(model).read(lambda: model(**batch), all_rows)
    assert not model.lm_head._forward_pre_hooks


def test_hooks_are_gone_after_an_error_at_the_head():
    model = build("gpt2")

    def at_head(hidden: Tensor, head: Head) -> None:
        raise RuntimeError("from the loss")

    with pytest.raises(RuntimeError, match="from the loss"):
        split_head(model).read(lambda: model(**batch_for(model)), at_head)
    assert not model.lm_head._forward_pre_hooks


def test_a_head_without_floating_point_weights_is_refused():
    model = build("llama")
    weight = torch.zeros(VOCABULARY, 16, dtype=torch.int8)
    model.lm_head.weight = nn.Parameter(weight, requires_grad=False)
    with pytest.raises(ValueError, match="quantised"):
        split_head(model).read(lambda: model(**batch_for(model)), all_rows)


def test_what_a_configuration_puts_behind_the_head():
    assert after_head(build("gpt2").config) == (1.0, None)
    assert after_head(build("gemma2").config) == (1.0, 2.0)
    assert after_head(build("cohere").config) == (0.3, None)
    assert after_head(build("granite").config) == (0.2, None)
