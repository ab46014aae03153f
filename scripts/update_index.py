"""Write the index of recipes: recipe, paper, student ← teacher, data, what it needs, result with spread, command.

What a row says of models, data and needs is kept where somebody has written it, and made from the recipe where not.
Results are those of the tables further down on the page, which `update_results.py` writes.

    python scripts/update_index.py recipes/README.md
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hf_distill.atomic import atomic_write_text
from hf_distill.recipe.recipe import Recipe, available_recipes

HEADS = ("recipe", "paper", "student ← teacher", "data", "needs", "result", "command")
BEGIN, END = "<!-- index -->", "<!-- end of index -->"
WRITTEN = slice(2, 5)  # student ← teacher, data, needs
NO_TABLE = "no table yet"
BASELINES = ("labels", "from_scratch")
TEACHER = "teacher"


def indexed(page: str) -> str:
    """Return a page with its index written anew."""
    before, _, rest = page.partition(f"{BEGIN}\n")
    old, _, after = rest.partition(END)
    kept = rows_of(old)
    rows = [row_of(name, Recipe.load(name), kept.get(name), after) for name in in_order(list(kept))]
    lines = [HEADS, ("---",) * len(HEADS), *rows]
    return before + f"{BEGIN}\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines) + f"\n{END}{after}"


def in_order(kept: list[str]) -> list[str]:
    """Return the names of all recipes in the order of the rows there are, new ones behind those of their family."""
    names = [info.name for info in available_recipes()]
    families = list(dict.fromkeys(name.split("/")[0] for name in [*kept, *names]))
    places = {name: place for place, name in enumerate(kept)}
    return sorted(names, key=lambda name: (families.index(name.split("/")[0]), places.get(name, len(kept)), name))


def rows_of(table: str) -> dict[str, list[str]]:
    """Return the cells of each row of an index by the recipe's name."""
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in table.splitlines()]
    links = ((re.search(r"\]\(([\w./-]+)\.yaml\)", row[0]), row) for row in rows)
    return {link[1]: row for link, row in links if link}


def row_of(name: str, recipe: Recipe, kept: list[str] | None, page: str) -> tuple[str, ...]:
    """Return a recipe's row.

    Args:
        name: Of the recipe.
        recipe: The recipe.
        kept: Its row before.
        page: Where its results may stand.
    """
    papers = re.findall(r"\d{4}\.\d{4,5}", recipe.paper or "")
    linked = {f"[{paper}](https://arxiv.org/abs/{paper})": None for paper in papers}
    more = re.findall(r"\[[^]]+\]\([^)]+\)", kept[1]) if kept else []
    made = (f"{student_text(recipe)} ← {teacher_text(recipe)}", data_text(recipe), "")
    written = tuple(kept[WRITTEN]) if kept else made
    result = result_text(recipe.name, page)
    left = kept[5] if kept and len(kept) == len(HEADS) and result == NO_TABLE and kept[5] else result
    return (
        f"[{name}]({name}.yaml)",
        ", ".join(dict.fromkeys([*linked, *more])),
        *written,
        left,
        f"`hf-distill run {name}`",
    )


def result_text(name: str, page: str) -> str:
    """Return the best student of each table of a recipe, and the baseline: `label median [smallest – largest]`."""
    mark = rf"<!-- results: {re.escape(name)}(?:/([\w-]+))? -->\n(.*?)<!-- end -->"
    found = re.findall(mark, page, re.DOTALL)
    return "; ".join(f"{block + ', ' if block else ''}{best_of(table)}" for block, table in found) or NO_TABLE


def best_of(table: str) -> str:
    """Return the best student's row of a table, which comes first, and the baseline's."""
    lines = [[c.strip() for c in line.strip("|").split("|")] for line in table.splitlines() if line.startswith("|")]
    heads, rows = lines[0], [row for row in lines[2:] if row[0] != TEACHER]
    place = next(place for place, head in enumerate(heads) if head.startswith("final "))
    shown = rows[:1] + [row for row in rows[1:] if row[0] in BASELINES]
    return f"{heads[place].removeprefix('final ')}: {', '.join(f'{row[0]} {row[place]}' for row in shown)}"


def student_text(recipe: Recipe) -> str:
    """Return the student in a few words."""
    if "from_teacher" in recipe.student.model:
        return "cut out of its teacher"
    return model_text(recipe.student.model)


def teacher_text(recipe: Recipe) -> str:
    """Return the teacher in a few words."""
    teacher = recipe.teacher
    if teacher is None:
        return "labels"
    if teacher.self_teacher is not None:
        return "itself"
    if teacher.train is not None:
        return model_text(teacher.train.model)
    return f"`{teacher.source}`" if isinstance(teacher.source, str) else "several"


def model_text(model: Mapping[str, Any]) -> str:
    """Return a model as `bert 2×64`, or where it comes from."""
    if "pretrained" in model:
        return f"`{model['pretrained']}`"
    config = model.get("config") or {}
    layers, width = (config.get(key) for key in ("num_hidden_layers", "hidden_size"))
    return f"{model['architecture']} {layers}×{width}" if layers and width else str(model["architecture"])


def data_text(recipe: Recipe) -> str:
    """Return task and data in a few words."""
    task = recipe.task
    source = task.get("data") or []
    sources = source if isinstance(source, list) else [source]
    places = [one.get("hub") or one.get("path") if isinstance(one, dict) else one for one in sources]
    return " · ".join(map(str, filter(None, [task["name"], task.get("subset"), *places])))


def main() -> None:
    """Write the index of a page anew."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path, nargs="?", default=Path("recipes/README.md"))
    page = parser.parse_args().page
    atomic_write_text(page, indexed(page.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
