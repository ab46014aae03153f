"""Whether a student can learn from a teacher: heads, labels, tokenizers, vocabularies. Checked before any training."""

from __future__ import annotations

from typing import Any, get_args

from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageClassification,
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
    MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES,
)

from hf_distill.models.inputs import check_decoder_inputs
from hf_distill.models.label_maps import label_order
from hf_distill.reading.signals import TOKEN_HEADS, Head

PROBE = "The quick brown fox, naïve café №5 — 12,345.67 (don't) ☃\n  def f(x): return x  # END"
"""Text on which two tokenizers that differ in normalisation or merging give different ids."""


def head_of(model: PreTrainedModel) -> Head:
    """Return the kind of head of a transformers model, from its class and configuration.

    Raises:
        ValueError: The class has none of the heads of `Head`, or several labels an example.
    """
    name = type(model).__name__
    heads = _heads_named(name, model.config)
    if not heads:
        raise ValueError(
            f"cannot tell the head of {name}; set `head` to one of {', '.join(get_args(Head))}, or use one of "
            "transformers' AutoModelForSequenceClassification / ForImageClassification / ForTokenClassification / "
            "ForQuestionAnswering / ForMaskedLM / ForCausalLM / ForSeq2SeqLM classes"
        )
    if heads[0] == "classification" and model.config.problem_type == "multi_label_classification":
        raise ValueError(
            f"{name} has problem_type='multi_label_classification'; several labels an example are not supported"
        )
    return heads[0]


def reads_images(config: PreTrainedConfig) -> bool:
    """Whether classifiers of a configuration read images (`pixel_values`)."""
    return type(config) in MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING and not _reads_sequences(config)


def _reads_sequences(config: PreTrainedConfig) -> bool:
    return type(config) in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING


def auto_class_of(head: Head, config: PreTrainedConfig) -> Any:
    """Return the `AutoModelFor...` class that loads models of a head and a configuration."""
    if head in ("classification", "regression"):
        return AutoModelForImageClassification if reads_images(config) else AutoModelForSequenceClassification
    return {
        "token_classification": AutoModelForTokenClassification,
        "question_answering": AutoModelForQuestionAnswering,
        "masked_lm": AutoModelForMaskedLM,
        "causal_lm": AutoModelForCausalLM,
        "seq2seq_lm": AutoModelForSeq2SeqLM,
    }[head]


def check_teacher_head(head: Head, architecture: str, config: PreTrainedConfig) -> None:
    """Refuse a teacher whose class has another head than the student: its logits would mean something else.

    A class that nobody knows is accepted.

    Args:
        head: The student's.
        architecture: Name of the teacher's class.
        config: The teacher's.

    Raises:
        ValueError: The heads differ.
    """
    heads = _heads_named(architecture, config)
    if heads and head not in heads:
        raise ValueError(
            f"the student has a {head} head and the teacher, {architecture}, a {heads[0]} head; distillation compares "
            f"their logits one by one. Use a teacher with a {head} head"
        )


def _heads_named(name: str, config: PreTrainedConfig) -> list[Head]:
    heads: list[Head] = []
    classifies = name.endswith(("ForSequenceClassification", "ForImageClassification"))
    if classifies or name in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES.values():
        single = config.num_labels == 1 and config.problem_type is None
        heads.append("regression" if config.problem_type == "regression" or single else "classification")
    if name in MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES.values() or name.endswith("ForTokenClassification"):
        heads.append("token_classification")
    if name in MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES.values() or name.endswith("ForQuestionAnswering"):
        heads.append("question_answering")
    # transformers counts some encoder-decoders (BART) among the masked language models.
    masked = name in MODEL_FOR_MASKED_LM_MAPPING_NAMES.values() and not name.endswith("ForConditionalGeneration")
    if masked or name.endswith("ForMaskedLM"):
        heads.append("masked_lm")
    if name in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values() or name.endswith("ForCausalLM"):
        heads.append("causal_lm")
    writes = name in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES.values() or name.endswith("ForConditionalGeneration")
    if writes and config.is_encoder_decoder:
        heads.append("seq2seq_lm")
    return heads


def check_inputs(student: PreTrainedConfig, teacher: PreTrainedConfig) -> None:
    """Refuse a teacher that cannot read the student's batches: images against text, other channels or another size.

    An architecture that nobody knows is accepted.

    Raises:
        ValueError: The inputs differ.
    """
    for images, text, ours, theirs in ((student, teacher, "images", "text"), (teacher, student, "text", "images")):
        if reads_images(images) and _reads_sequences(text):
            raise ValueError(
                f"the student reads {ours} and the teacher {theirs}, but both get the same batches; use a teacher "
                f"that reads {ours}"
            )
    if not reads_images(student):
        return
    for key in ("num_channels", "image_size"):
        mine, other = student.to_dict().get(key), teacher.to_dict().get(key)
        if mine is not None and other is not None and mine != other:
            raise ValueError(
                f"the student reads images of {key} {mine} and the teacher of {key} {other}, but both get the same "
                f"batches; make data and student with the teacher's {key}"
            )


def check_tokenizers(student: PreTrainedTokenizerBase, teacher: PreTrainedTokenizerBase) -> int | None:
    """Compare two tokenizers by their token maps and on a probe text.

    A token of both must have one id, and an id of both one token; one may extend the other at the end.

    Returns:
        The first id that only one of the two has; None where the maps are equal.

    Raises:
        ValueError: The tokenizers differ.
    """
    ours, theirs = student.get_vocab(), teacher.get_vocab()
    if ours == theirs:
        first_unshared = None
    else:
        conflict = next((token for token in ours.keys() & theirs.keys() if ours[token] != theirs[token]), None)
        unshared = {ours[token] for token in ours.keys() - theirs.keys()}
        unshared ^= {theirs[token] for token in theirs.keys() - ours.keys()}
        both = {ours[token] for token in ours.keys() - theirs.keys()} & set(theirs.values())
        if conflict is not None or both:
            example = f"token {conflict!r}" if conflict is not None else f"id {min(both)}"
            raise ValueError(
                f"student and teacher have different tokenizers ({len(ours)} and {len(theirs)} tokens; {example} "
                "means different things); token-by-token distillation needs one tokenizer. Use the teacher's for the "
                "student"
            )
        first_unshared = min(unshared)
        shared = {ours[token] for token in ours.keys() & theirs.keys()}
        if shared and max(shared) > first_unshared:
            raise ValueError(
                f"student and teacher tokenizers share ids up to {max(shared)}, but only one of them has a token for "
                f"id {first_unshared}; one may extend the other only after its last id. Use the teacher's tokenizer "
                "for the student"
            )
    our_ids, their_ids = (side(PROBE, add_special_tokens=False)["input_ids"] for side in (student, teacher))
    if our_ids != their_ids:
        raise ValueError(
            "student and teacher tokenizers have one vocabulary but split text differently (normalisation or merges); "
            "use the teacher's tokenizer for the student"
        )
    return first_unshared


def shared_width(
    head: Head,
    student: PreTrainedConfig,
    teacher: PreTrainedConfig,
    *,
    student_tokenizer: PreTrainedTokenizerBase | None,
    teacher_tokenizer: PreTrainedTokenizerBase | None,
) -> int | None:
    """Return how many classes or token ids both heads have in common, after checking that they mean the same.

    Heads padded to different widths (151,936 and 152,064 for one tokenizer) are cut to the shared ids. None stands for
    heads that are as wide as the text.

    Raises:
        ValueError: Labels, tokenizers or the start of decoders differ, or nothing says whether different widths are
            one vocabulary.
    """
    known = student_tokenizer is not None and teacher_tokenizer is not None
    first_unshared = check_tokenizers(student_tokenizer, teacher_tokenizer) if known else None
    if student_tokenizer is not None and teacher.get_text_config().vocab_size is not None:
        highest = max(student_tokenizer.get_vocab().values())
        if highest >= teacher.get_text_config().vocab_size:
            raise ValueError(
                f"the student's tokenizer has id {highest}, but the teacher's embedding ends at "
                f"{teacher.get_text_config().vocab_size - 1}; use the teacher's tokenizer for the student"
            )
    if head == "question_answering":
        return None
    if head == "seq2seq_lm":
        check_decoder_inputs(student, teacher)
    if head not in TOKEN_HEADS:
        check_inputs(student, teacher)
        label_order(head, student, teacher)
        return student.num_labels
    widths = (student.get_text_config().vocab_size, teacher.get_text_config().vocab_size)
    if widths[0] != widths[1] and not known:
        raise ValueError(
            f"the student's vocabulary has {widths[0]} ids and the teacher's {widths[1]}, and without both tokenizers "
            "nothing says that they mean the same; pass the student's as `processing_class` and the teacher's as "
            "TeacherSequence(tokenizer=...)"
        )
    return min(*widths, *([first_unshared] if first_unshared is not None else []))


def unwrap_peft(model: Any) -> PreTrainedModel:
    """Return the transformers model inside a PEFT wrapper, or the model itself.

    Raises:
        ValueError: Neither of them.
    """
    if isinstance(model, PreTrainedModel):
        return model
    try:
        return model.get_base_model()
    except AttributeError:
        raise ValueError(
            "the student must be a transformers PreTrainedModel or a PEFT model around one, got "
            f"{type(model).__name__}"
        ) from None
