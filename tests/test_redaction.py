"""Tokens and paths of this machine never leave it."""

from __future__ import annotations

import pytest

from hf_distill.redaction import BLANK, without_local_paths, without_secrets

TOKEN = "hf_" + "AbCdEfGh" * 4


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (TOKEN, BLANK),
        (f"push failed for {TOKEN}.", f"push failed for {BLANK}."),
        ({"training": {"hub_token": "anything"}}, {"training": {"hub_token": BLANK}}),
        (
            {"api_key": "x", "tokenizer": "acme/t", "num_tokens": 5},
            {"api_key": BLANK, "tokenizer": "acme/t", "num_tokens": 5},
        ),
        (["run", "--hub-token", "x", "next"], ["run", "--hub-token", BLANK, "next"]),
        (["--set", "training.hub_token=x"], ["--set", f"training.hub_token={BLANK}"]),
        ("https://user:pass@host/repo", f"https://{BLANK}@host/repo"),
        ("Authorization: Bearer abc.def", f"Authorization: Bearer {BLANK}"),
        ({"hub_token": None}, {"hub_token": None}),
        ("hf_distill runs hf-distill", "hf_distill runs hf-distill"),
        ("runs/hf_checkpoints/step-5", "runs/hf_checkpoints/step-5"),
        ("max_tokens=5", "max_tokens=5"),
        ({"pad_token": "[PAD]"}, {"pad_token": "[PAD]"}),
        ("eos_token=</s>", "eos_token=</s>"),
    ],
)
def test_secrets_are_blanked_and_nothing_else(given, expected):
    assert without_secrets(given) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("/home/someone/recipes/quickstart.yaml", "quickstart.yaml"),
        ("output_dir=/data/runs/one", "output_dir=one"),
        ("~/runs/one/", "one"),
        ("C:\\Users\\someone\\runs\\one", "one"),
        ("file:///home/someone/data.jsonl", "data.jsonl"),
        ("read '/data/a.json' and \"/data/b.json\"", "read 'a.json' and \"b.json\""),
        ({"files": ["/data/train.txt"]}, {"files": ["train.txt"]}),
        ("https://huggingface.co/acme/model/tree/main", "https://huggingface.co/acme/model/tree/main"),
        ("acme/model@step-*", "acme/model@step-*"),
        ("runs/one/checkpoint-5", "runs/one/checkpoint-5"),
        ("./runs/one", "./runs/one"),
        ("KL(p‖q)/τ² and 1 / 2", "KL(p‖q)/τ² and 1 / 2"),
        (3.5, 3.5),
    ],
)
def test_absolute_paths_are_cut_to_their_last_part_and_nothing_else_changes(given, expected):
    assert without_local_paths(given) == expected


def test_arguments_are_not_changed_in_place():
    given = {"a": ["/x/y", TOKEN], "hub_token": "s"}
    without_secrets(given)
    without_local_paths(given)
    assert given == {"a": ["/x/y", TOKEN], "hub_token": "s"}
