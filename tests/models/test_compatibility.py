"""Pairs of models that cannot be compared are refused, pairs that can are not."""

from __future__ import annotations

import pytest
import torch
from builders import HEADS, bert_config, distill_trainer, tiny_model, word_tokenizer
from image_models import MAKERS, image_model, resnet_config, vit_config
from seq2seq_models import tiny_seq2seq
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageClassification,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForSequenceClassification,
    BertLMHeadModel,
    BertModel,
    GPT2Config,
    PreTrainedConfig,
)

from hf_distill.models.compatibility import (
    auto_class_of,
    check_teacher_head,
    check_tokenizers,
    head_of,
    reads_images,
    shared_width,
)
from hf_distill.tasks.parity_model import ParityMlpConfig, ParityMlpForSequenceClassification

WORDS = ("a", "b", "c", "d")


def classes(*names: str) -> BertConfig:
    return bert_config(id2label=dict(enumerate(names)), label2id={name: index for index, name in enumerate(names)})


def width(student: BertConfig, teacher: BertConfig, head: str = "masked_lm", ours=None, theirs=None) -> int:
    return shared_width(head, student, teacher, student_tokenizer=ours, teacher_tokenizer=theirs)


# ---- heads ----


@pytest.mark.parametrize("head", HEADS)
def test_the_head_is_read_from_the_class(head):
    assert head_of(tiny_model(head)) == head


def test_one_output_without_a_problem_type_is_regression():
    assert head_of(BertForSequenceClassification(bert_config(num_labels=1))) == "regression"


def test_several_outputs_with_a_problem_type_are_regression():
    config = bert_config(num_labels=3, problem_type="regression")
    assert head_of(BertForSequenceClassification(config)) == "regression"


def test_a_class_of_our_own_is_known_by_its_name():
    assert head_of(ParityMlpForSequenceClassification(ParityMlpConfig(input_size=4, width=2))) == "classification"


@pytest.mark.parametrize("name", MAKERS)
def test_an_image_classifier_is_a_classifier(name):
    model = image_model(name)
    assert head_of(model) == "classification"
    assert reads_images(model.config)
    check_teacher_head("classification", type(model).__name__, model.config)
    with pytest.raises(ValueError, match=r"a masked_lm head and the teacher, .*, a classification head"):
        check_teacher_head("masked_lm", type(model).__name__, model.config)


def test_images_and_text_are_loaded_with_their_own_classes():
    text, parity = tiny_model("classification").config, ParityMlpConfig()
    assert auto_class_of("classification", resnet_config()) is AutoModelForImageClassification
    assert auto_class_of("regression", vit_config()) is AutoModelForImageClassification
    assert auto_class_of("classification", text) is AutoModelForSequenceClassification
    assert auto_class_of("classification", parity) is AutoModelForSequenceClassification
    assert auto_class_of("masked_lm", text) is AutoModelForMaskedLM
    assert auto_class_of("causal_lm", text) is AutoModelForCausalLM
    assert not reads_images(text) and not reads_images(parity)


@pytest.mark.parametrize(
    ("student", "teacher", "message"),
    [
        (resnet_config(), bert_config(num_labels=3), "the student reads images and the teacher text"),
        (bert_config(num_labels=3), vit_config(), "the student reads text and the teacher images"),
        (vit_config(), vit_config(image_size=32), "image_size 16 and the teacher of image_size 32"),
        (resnet_config(num_channels=1), vit_config(), "num_channels 1 and the teacher of num_channels 3"),
        (resnet_config(), resnet_config(num_labels=4), "the student has 3 labels and the teacher 4"),
    ],
)
def test_a_teacher_that_cannot_read_the_batches_is_refused(student, teacher, message):
    with pytest.raises(ValueError, match=message):
        width(student, teacher, "classification")


def test_image_classifiers_of_other_architectures_are_refused():
    assert width(resnet_config(), vit_config(), "classification") == 3
    assert width(bert_config(num_labels=3), PreTrainedConfig(num_labels=3), "classification") == 3


def test_several_labels_an_example_are_refused():
    config = bert_config(num_labels=3, problem_type="multi_label_classification")
    with pytest.raises(ValueError, match="several labels an example are not supported"):
        head_of(BertForSequenceClassification(config))


def test_a_model_without_a_head_is_refused():
    with pytest.raises(
        ValueError, match="cannot tell the head of BertModel; set `head` to one of classification, regression"
    ):
        head_of(BertModel(bert_config()))


def test_an_encoder_decoder_is_not_taken_for_a_masked_language_model():
    sizes = {"d_model": 8, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 8, "decoder_ffn_dim": 8}
    config = BartConfig(vocab_size=8, encoder_attention_heads=1, decoder_attention_heads=1, **sizes)
    assert head_of(BartForConditionalGeneration(config)) == "seq2seq_lm"


@pytest.mark.parametrize("student", HEADS)
@pytest.mark.parametrize("teacher", HEADS)
def test_a_teacher_with_another_head_is_refused(student, teacher):
    model = tiny_model(teacher)
    name = type(model).__name__
    if student == teacher:
        check_teacher_head(student, name, model.config)
        assert head_of(model) == student
        return
    with pytest.raises(ValueError, match=f"the student has a {student} head and the teacher, {name}, a {teacher}"):
        check_teacher_head(student, name, model.config)


def test_a_bert_decoder_is_a_causal_teacher():
    model = BertLMHeadModel(bert_config(is_decoder=True))
    check_teacher_head("causal_lm", "BertLMHeadModel", model.config)
    assert head_of(model) == "causal_lm"


def test_a_class_that_nobody_knows_is_not_refused():
    assert check_teacher_head("causal_lm", "MyOwnModel", bert_config()) is None


# ---- labels ----


def test_a_classifier_compares_its_classes():
    assert width(classes("yes", "no"), classes("no", "yes"), head="classification") == 2
    with pytest.raises(ValueError, match="do not have the same labels"):
        width(classes("yes", "no"), classes("yes", "maybe"), head="classification")


# ---- tokenizers ----


def test_equal_tokenizers_share_everything():
    assert check_tokenizers(word_tokenizer(*WORDS), word_tokenizer(*WORDS)) is None


@pytest.mark.parametrize("longer_is_student", [True, False])
def test_tokens_added_at_the_end_are_not_shared(longer_is_student):
    pair = [word_tokenizer(*WORDS, "more", "tokens"), word_tokenizer(*WORDS)]
    assert check_tokenizers(*(pair if longer_is_student else pair[::-1])) == 5


def test_an_added_special_token_is_not_shared():
    longer = word_tokenizer(*WORDS)
    longer.add_special_tokens({"additional_special_tokens": ["<tool>"]})
    assert check_tokenizers(longer, word_tokenizer(*WORDS)) == 5


def test_a_token_with_two_ids_is_refused():
    with pytest.raises(ValueError, match=r"different tokenizers \(5 and 5 tokens; token '[cd]' means different"):
        check_tokenizers(word_tokenizer("a", "b", "c", "d"), word_tokenizer("a", "b", "d", "c"))


def test_an_id_with_two_tokens_is_refused():
    with pytest.raises(ValueError, match="id 4 means different things"):
        check_tokenizers(word_tokenizer("a", "b", "c", "d"), word_tokenizer("a", "b", "c", "x"))


def test_a_token_added_where_the_longer_vocabulary_goes_on_is_refused():
    shorter, longer = word_tokenizer("a", "b", "c"), word_tokenizer("a", "b", "c", "d", "e")
    shorter.add_tokens(["unused"])
    longer_vocabulary = {**longer.get_vocab()}
    assert longer_vocabulary["d"] == shorter.get_vocab()["unused"] == 4
    with pytest.raises(ValueError, match="id 4 means different things"):
        check_tokenizers(shorter, longer)


def test_tokenizers_that_share_later_ids_only_are_refused():
    class WithGap(type(word_tokenizer())):
        def get_vocab(self):
            return {token: index for token, index in super().get_vocab().items() if token != "b"}

    gappy = WithGap(tokenizer_object=word_tokenizer(*WORDS).backend_tokenizer, unk_token="[UNK]")
    with pytest.raises(ValueError, match="share ids up to 4, but only one of them has a token for id 2"):
        check_tokenizers(gappy, word_tokenizer(*WORDS))


def test_one_vocabulary_with_two_ways_to_split_is_refused():
    lower = word_tokenizer("the", "quick", "The")
    from tokenizers.normalizers import Lowercase

    lower.backend_tokenizer.normalizer = Lowercase()
    with pytest.raises(ValueError, match="split text differently"):
        check_tokenizers(lower, word_tokenizer("the", "quick", "The"))


# ---- the shared width ----


def test_heads_padded_to_different_widths_share_the_narrower_one():
    tokenizer = word_tokenizer(*WORDS)
    student, teacher = bert_config(vocab_size=8), bert_config(vocab_size=16)
    assert width(student, teacher, ours=tokenizer, theirs=tokenizer) == 8
    assert width(teacher, student, ours=tokenizer, theirs=tokenizer) == 8


def test_an_extended_tokenizer_shares_the_ids_before_the_extension():
    config = bert_config(vocab_size=16)
    assert width(config, config, ours=word_tokenizer(*WORDS), theirs=word_tokenizer(*WORDS, "more")) == 5


def test_different_widths_without_tokenizers_are_not_guessed_to_be_one_vocabulary():
    with pytest.raises(ValueError, match=r"has 8 ids and the teacher's 16, and without both tokenizers"):
        width(bert_config(vocab_size=8), bert_config(vocab_size=16))
    assert width(bert_config(vocab_size=8), bert_config(vocab_size=8)) == 8


def test_ids_beyond_the_teachers_embedding_are_refused_before_they_crash_it():
    with pytest.raises(ValueError, match="has id 4, but the teacher's embedding ends at 2"):
        width(bert_config(vocab_size=8), bert_config(vocab_size=3), ours=word_tokenizer(*WORDS))


def test_a_teacher_that_embeds_no_tokens_has_no_vocabulary_to_compare():
    config = ParityMlpConfig(input_size=4, width=2)
    assert width(config, config, head="classification") == 2


def test_architectures_may_differ_where_the_vocabulary_is_one():
    tokenizer = word_tokenizer(*WORDS)
    assert width(bert_config(vocab_size=8), GPT2Config(vocab_size=8), ours=tokenizer, theirs=tokenizer) == 8


def test_checking_needs_no_weights():
    with torch.device("meta"):
        assert head_of(tiny_model("masked_lm")) == "masked_lm"


# ---- decoders and answers ----


def test_a_decoder_that_starts_otherwise_is_refused(tmp_path):
    student, teacher = tiny_seq2seq("bart", decoder_start_token_id=2), tiny_seq2seq("bart", seed=7)
    with pytest.raises(ValueError, match="the student's decoder_start_token_id is 2 and the teacher's 0, but both"):
        distill_trainer(tmp_path, "seq2seq_lm", model=student, teacher=teacher)


def test_answers_are_not_cut_to_a_width_that_models_share():
    config = tiny_model("question_answering").config
    assert shared_width("question_answering", config, config, student_tokenizer=None, teacher_tokenizer=None) is None


@pytest.mark.parametrize(
    ("head", "name"),
    [
        ("token_classification", "AutoModelForTokenClassification"),
        ("question_answering", "AutoModelForQuestionAnswering"),
        ("seq2seq_lm", "AutoModelForSeq2SeqLM"),
    ],
)
def test_a_head_is_loaded_with_its_own_class(head, name):
    assert auto_class_of(head, tiny_model(head).config).__name__ == name


@pytest.mark.parametrize("architecture", ["t5", "marian", "bart"])
def test_a_model_that_writes_is_known(architecture):
    model = tiny_seq2seq(architecture)
    assert head_of(model) == "seq2seq_lm"
    with pytest.raises(ValueError, match="the student has a causal_lm head and the teacher"):
        check_teacher_head("causal_lm", type(model).__name__, model.config)
