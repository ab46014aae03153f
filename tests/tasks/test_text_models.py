from __future__ import annotations

import pytest
from builders import bert_config, tiny_model, word_tokenizer

from hf_distill.tasks.text_models import check_labels, check_reads_text, label_config, text_defaults

TOKENIZER = word_tokenizer(*"abcdefgh")


def test_a_config_is_made_for_its_vocabulary() -> None:
    defaults = text_defaults(TOKENIZER)
    assert defaults["vocab_size"] == 9
    assert set(defaults) == {"vocab_size", "pad_token_id", "bos_token_id", "eos_token_id"}


def test_a_model_that_cannot_read_the_text_is_refused() -> None:
    model = tiny_model("classification", vocab_size=9)
    assert check_reads_text(model, TOKENIZER, max_length=32) is None
    with pytest.raises(ValueError, match=r"reads 32 positions, but task.max_length is 33"):
        check_reads_text(model, TOKENIZER, max_length=33)
    with pytest.raises(ValueError, match=r"its vocabulary has 8 entries, the tokenizer 9"):
        check_reads_text(tiny_model("classification", vocab_size=8), TOKENIZER, max_length=8)


def test_a_model_for_other_classes_is_refused() -> None:
    names = ["no", "yes"]
    assert check_labels(bert_config(**label_config(names)), names) is None
    assert check_labels(bert_config(num_labels=2), names) is None
    with pytest.raises(ValueError, match=r"its classes are \['no', 'maybe'\], those of the data \['no', 'yes'\]"):
        check_labels(bert_config(**label_config(["no", "maybe"])), names)
    with pytest.raises(ValueError, match=r"another order.*a teacher may have any order"):
        check_labels(bert_config(**label_config(["yes", "no"])), names)
    with pytest.raises(ValueError, match="2 classes against 3"):
        check_labels(bert_config(num_labels=3), names)
