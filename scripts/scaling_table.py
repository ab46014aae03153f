"""Print what a step takes on 1 to 1,024 GPUs, or write the tables of recipes/accelerate/README.md anew.

Without options: for BERT-base ← BERT-large and for 1.5B ← 7.6B. `--student` and `--teacher` take any two
configurations instead, folders or models of the Hub; of a whole recipe `hf-distill plan RECIPE --scaling` tells it.

    python scripts/scaling_table.py --page recipes/accelerate/README.md
    python scripts/scaling_table.py --student org/small --teacher org/large --tokens 1024 --engine fsdp2
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args

from hf_distill.atomic import atomic_write_text
from hf_distill.planning.engines import ENGINES, engine_named
from hf_distill.planning.machine import MACHINES, machine_named
from hf_distill.planning.pairs import PAIRS, Pair, config_at
from hf_distill.planning.scaling import Layout
from hf_distill.planning.scaling_page import circumstances_table, pair_table, written
from hf_distill.planning.work import PLACEMENTS, placement_named
from hf_distill.reading.signals import Head


def pairs_of(options: argparse.Namespace) -> list[Pair]:
    """Return the pairs that were asked for."""
    if options.student is None and options.teacher is None:
        return list(PAIRS.values())
    if options.student is None or options.teacher is None:
        raise ValueError("give both --student and --teacher, or neither")
    title = f"{options.student} ← {options.teacher}, {options.head}, {options.tokens:,} tokens"
    return [
        Pair(
            title=title,
            student=config_at(options.student),
            teacher=config_at(options.teacher),
            head=options.head,
            tokens=options.tokens,
            micro_batch=options.micro_batch,
            examples=options.examples,
            revision_steps=options.revision_steps,
        )
    ]


def parser() -> argparse.ArgumentParser:
    """Return the options."""
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--page", type=Path, help="write the blocks of this page anew and print nothing")
    found.add_argument("--student", help="configuration of the student")
    found.add_argument("--teacher", help="configuration of the teacher")
    found.add_argument("--head", choices=get_args(Head), default="causal_lm")
    found.add_argument("--tokens", type=int, default=2048, help="of an example")
    found.add_argument("--micro-batch", type=int, default=4, help="examples that a GPU takes at a time")
    found.add_argument("--examples", type=int, default=1024, help="of a step")
    found.add_argument("--revision-steps", type=int, default=1000, help="steps between two revisions of the teacher")
    found.add_argument("--engine", default="ddp", help=", ".join(ENGINES))
    found.add_argument("--placement", default="replicated", help=f"of the teacher: {', '.join(PLACEMENTS)}")
    found.add_argument("--machine", default="h100", help=", ".join(MACHINES))
    found.add_argument("--constant", action="append", default=[], metavar="FIELD=NUMBER", help="of the machine")
    found.add_argument("--shared-cache", action="store_true", help="all nodes have one cache of the Hub")
    return found


def main() -> None:
    """Write the page or print the tables."""
    options = parser().parse_args()
    if options.page is not None:
        atomic_write_text(options.page, written(options.page.read_text(encoding="utf-8")))
        return
    layout = Layout(
        engine=engine_named(options.engine),
        teacher=placement_named(options.placement),
        machine=machine_named(options.machine, options.constant),
        shared_cache=options.shared_cache,
    )
    for pair in pairs_of(options):
        print(pair_table(pair, layout))
        if options.student is None and layout == Layout():
            print(circumstances_table(pair))


if __name__ == "__main__":
    main()
