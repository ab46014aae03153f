"""How a model is used with transformers, as code for its card: loaded, and asked once in its task's own way."""

from __future__ import annotations

from typing import Any

from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

from hf_distill.hub.card_data import has_image_processor, has_tokenizer, reads_images
from hf_distill.run_record import RunRecord

AUTO_CLASSES = {
    "classification": "AutoModelForSequenceClassification",
    "regression": "AutoModelForSequenceClassification",
    "token_classification": "AutoModelForTokenClassification",
    "question_answering": "AutoModelForQuestionAnswering",
    "masked_lm": "AutoModelForMaskedLM",
    "causal_lm": "AutoModelForCausalLM",
    "seq2seq_lm": "AutoModelForSeq2SeqLM",
}

# Without pipelines: transformers has none for questions, translations and summaries.
_ASKED = {
    "classification": ["print(model.config.id2label[model(**inputs).logits.argmax().item()])"],
    "regression": ["print(model(**inputs).logits.item())"],
    "token_classification": [
        "tags = [model.config.id2label[tag] for tag in model(**inputs).logits[0].argmax(-1).tolist()]",
        "print(list(zip(inputs.tokens(), tags)))",
    ],
    "question_answering": [
        "answer = model(**inputs)",
        "start, end = answer.start_logits.argmax().item(), answer.end_logits.argmax().item()",
        'print(tokenizer.decode(inputs["input_ids"][0, start : end + 1]))',
    ],
    "masked_lm": [
        'place = inputs["input_ids"][0].tolist().index(tokenizer.mask_token_id)',
        "print(tokenizer.decode(model(**inputs).logits[0, place].argmax().item()))",
    ],
    "causal_lm": ['print(tokenizer.decode(model.generate(inputs["input_ids"], max_new_tokens=20)[0]))'],
    "seq2seq_lm": ['print(tokenizer.decode(model.generate(inputs["input_ids"])[0], skip_special_tokens=True))'],
}


def use_code(record: RunRecord, repo_id: str | None) -> str:
    """Return Python code that loads a model and asks it once.

    Args:
        record: Its `task` is the model's, `student` says what it was made from.
        repo_id: Where it is on the Hub; None for the folder of the card.
    """
    head = str(record.task["head"])
    auto = "AutoModelForImageClassification" if reads_images(record) else AUTO_CLASSES[head]
    names = [auto]
    names += ["AutoTokenizer"] if has_tokenizer(record) else []
    names += ["AutoImageProcessor"] if has_image_processor(record) else []
    where = repr(repo_id) if repo_id else '"."  # the folder of this card, or its id on the Hub'
    lines = [f"from transformers import {', '.join(sorted(names))}", ""]
    architecture = own_architecture(record)
    if architecture:
        lines = [f"import hf_distill.tasks  # makes transformers know the architecture {architecture!r}", *lines]
    lines += [f"source = {where}", f"model = {auto}.from_pretrained(source)"]
    if has_tokenizer(record):
        lines += ["tokenizer = AutoTokenizer.from_pretrained(source)", "", _read_lines(record), *_ASKED[head]]
    if has_image_processor(record):
        lines = ["from PIL import Image", *lines, *_image_lines(record)]
    return "\n".join(lines)


def own_architecture(record: RunRecord) -> str | None:
    """Return the student's architecture where transformers alone does not know it."""
    origin = record.student.get("origin")
    architecture = origin.get("architecture") if isinstance(origin, dict) else None
    return architecture if architecture and architecture not in CONFIG_MAPPING_NAMES else None


def reads_pairs(description: dict[str, Any]) -> bool:
    """Whether a task's data are pairs of texts: `preprocessing` then ends its list of columns with "as a pair"."""
    return " as a pair" in str(description.get("preprocessing"))


def _read_lines(record: RunRecord) -> str:
    head = str(record.task["head"])
    texts = '"A sentence."'
    if head == "question_answering":
        texts = '"Who asks?", "This is the text in which somebody asks."'
    elif head == "masked_lm":
        texts = 'f"A sentence with one {tokenizer.mask_token} left out."'
    elif reads_pairs(record.task.get("description") or {}):
        texts = '"A sentence.", "The sentence beside it."'
    return f'inputs = tokenizer({texts}, return_tensors="pt")'


def _image_lines(record: RunRecord) -> list[str]:
    mode = "L" if (record.task.get("description") or {}).get("channels") == 1 else "RGB"
    return [
        "processor = AutoImageProcessor.from_pretrained(source)",
        f'inputs = processor(Image.open("image.png").convert("{mode}"), return_tensors="pt")',
        "print(model.config.id2label[model(**inputs).logits.argmax().item()])",
    ]
