"""Head to divergence with gradients: tiles against the four matrix products alone and against what others offer.

Times in turns in one process: the median over rounds of the ratio to the floor. Memory: the rise of the resident
memory in a fresh process, gradients included; on a GPU, which is used where there is one, of what is allocated there.

    python scripts/benchmark_head.py --rounds 7 --output head.json
    python scripts/benchmark_head.py --sizes          # memory over four sizes, up to 8,192 tokens × 151,936 ids

Forward KL and JSD both, unless `--beta` names one. Targets on two cores in float32, 2,048 tokens × 32,000 ids: forward
KL ≤ 1.2 × the floor and 150 MiB beyond the head's gradient, JSD ≤ 1.5 ×; ≥ 2.5 × faster than "trl dense", ≥ 4 × than
"trl tiles", faster than "liger chunks".

trl and liger-kernel take part where they can be imported. Liger's chunked loss (uncompiled) needs no triton, which its
package demands; its files alone will do:

    pip download --no-deps liger-kernel==0.8.5 && unzip -q liger_kernel-*.whl -d liger
    PYTHONPATH=liger python scripts/benchmark_head.py
"""

from __future__ import annotations

import json
import statistics

import torch
from head_contenders import FLOOR, Heads, available
from side_by_side import MIB, extra_memory, figures_parser, in_own_process, own_device, ratio, times_in_turns

from hf_distill.atomic import atomic_write_json

SIZES = ((512, 30_522), (2048, 32_000), (4096, 128_256), (8192, 151_936))
MEASURED_BELOW_MIB = 4096
BOUNDED = ("tiles", "trl tiles")
LIGER_ROWS = 1024


def extra_mib(name: str, tokens: int, vocabulary: int, beta: float) -> float:
    """Return the extra memory of one way, from a process of its own."""
    return in_own_process(
        "--only", name, "--tokens", str(tokens), "--vocabulary", str(vocabulary), "--beta", str(beta)
    )


def compare(tokens: int, vocabulary: int, beta: float, rounds: int) -> dict[str, dict[str, float]]:
    """Return for each way its seconds, their ratio to the floor and to the tiles, and its extra memory."""
    device = own_device()
    heads, names = Heads(tokens, vocabulary, beta, device), available(beta, device)
    seconds = times_in_turns({name: heads.ways[name] for name in names}, rounds, device)
    return {
        name: {
            "seconds": statistics.median(seconds[name]), "by floor": ratio(seconds, name, FLOOR),
            "by tiles": ratio(seconds, name, "tiles"), "extra MiB": extra_mib(name, tokens, vocabulary, beta),
        }
        for name in names
    }  # fmt: skip


def memory_over_sizes(beta: float) -> dict[str, dict[str, float]]:
    """Return the extra MiB by way and size, head gradient taken off; where it grows too large, an estimate."""
    table: dict[str, dict[str, float]] = {}
    for name in available(beta, own_device()):
        table[name], bytes_per_logit = {}, 0.0
        for tokens, vocabulary in SIZES:
            size, gradient = f"{tokens} x {vocabulary}", vocabulary * 256 * 4 / MIB
            alive = vocabulary * (min(tokens, LIGER_ROWS) if name == "liger chunks" else tokens) / MIB
            if name in BOUNDED or alive * bytes_per_logit < MEASURED_BELOW_MIB:
                table[name][size] = extra_mib(name, tokens, vocabulary, beta) - gradient
                bytes_per_logit = table[name][size] / alive
            else:
                table[name][f"{size}, estimated"] = bytes_per_logit * alive
    return table


def show(table: dict[str, dict[str, float]]) -> None:
    """Print one line a way."""
    for name, figures in table.items():
        print(f"{name:>14}", *(f"{key} {value:.4g}" for key, value in figures.items()), sep="  |  ")


def main() -> None:
    """Run the benchmark and print its figures."""
    parser = figures_parser(__doc__, tokens=2048, vocabulary=32_000, rounds=7)
    parser.add_argument("--beta", type=float, default=None, help="0: forward KL, 0.5: JSD; both where not given")
    parser.add_argument("--sizes", action="store_true", help="memory over sizes instead")
    parser.add_argument("--only", default=None, help="print the extra MiB of one way and end")
    options = parser.parse_args()
    if options.only is not None:
        device = own_device()
        Heads(32, 64, options.beta, device).ways[options.only]()
        heads = Heads(options.tokens, options.vocabulary, options.beta, device)
        print(json.dumps(extra_memory(heads.ways[options.only], device)))
        return
    result: dict[str, object] = {"threads": torch.get_num_threads(), "torch": torch.__version__}
    result["device"] = torch.cuda.get_device_name() if own_device().type == "cuda" else "cpu"
    for beta in (0.0, 0.5) if options.beta is None else (options.beta,):
        title = f"JSD, beta {beta:g}" if beta else "forward KL"
        print(f"{title}; {options.tokens} x {options.vocabulary}" if not options.sizes else f"{title}; extra MiB")
        work = (options.tokens, options.vocabulary, beta, options.rounds)
        result[title] = table = memory_over_sizes(beta) if options.sizes else compare(*work)
        show(table)
    if options.output is not None:
        atomic_write_json(options.output, result)


if __name__ == "__main__":
    main()
