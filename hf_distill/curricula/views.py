"""Augmented views beside any curriculum: the teacher's terms once more, the teacher run anew on an augmented batch.

L = Σ terms on the batch + Σ over views of weight · the teacher's terms on the view. With one_shot, label_mix 0.1 and
mixup this is 0.1·CE(x) + 0.9·[KL(x) + KL(x_mix)] of Wang et al. 2020 (arXiv 2012.02909). Labels are never asked for on
a view. With `intra`, each view is read by one pass of the student; `r_drop` doubles its terms as it does all others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from hf_distill.curricula.base import Curriculum, check_range
from hf_distill.curricula.plan import Stage
from hf_distill.reading.signals import Head
from hf_distill.schedules import build_schedule
from hf_distill.strict_dataclass import from_mapping
from hf_distill.views import VIEWS, StageView
from hf_distill.views.stage_view import Pick

_PATH = "curriculum.views"


def build_views(curriculum: Curriculum, head: Head) -> tuple[StageView, ...]:
    """Build the `views` of a curriculum; there may be none.

    Raises:
        ValueError: Unknown or impossible fields, a view that does not fit the head, or a curriculum without a teacher.
    """
    spec = curriculum.views
    if not spec:
        return ()
    if not curriculum.uses_teacher:
        raise ValueError(
            f"{_PATH}: on a view the teacher says what to learn, and this curriculum has none; use `one_shot`, whose "
            "`label_mix` adds labels"
        )
    specs = [spec] if isinstance(spec, Mapping) else spec
    views = tuple(_build(one, _PATH if isinstance(spec, Mapping) else f"{_PATH}[{i}]") for i, one in enumerate(specs))
    for view in views:
        view.check_head(head)
    names = [view.name for view in views]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"{_PATH}: {repeated} appear twice; give one of them a `label`")
    return views


def _build(spec: Mapping[str, Any], path: str) -> StageView:
    fields = dict(spec)
    weight = build_schedule(fields.pop("weight", 1.0), path=f"{path}.weight")
    check_range(weight, 0.0, math.inf, path=f"{path}.weight")
    given = fields.pop("pick", None)
    pick = Pick(pools=1) if given is None else from_mapping(Pick, given, path=f"{path}.pick")
    label = fields.pop("label", fields.get("name"))
    return StageView(name=str(label), view=VIEWS.build(fields, path=path), weight=weight, pick=pick)


def extend(stage: Stage, views: Sequence[StageView]) -> Stage:
    """Return `stage` with the teacher's terms on each view; stages of hidden layers or labels stay as they are.

    Raises:
        ValueError: One of the teacher's terms compares with labels too, which a view may have made wrong.
    """
    taught = [term for term in stage.terms if term.objective.uses_teacher]
    if stage.layers is not None or not views:
        return stage
    labelled = [term.name for term in taught if "labels" in term.objective.needs]
    if labelled:
        raise ValueError(
            f"{_PATH}: {labelled} of the stage {stage.name!r} compare with labels too, which do not belong to an "
            "augmented input; use objectives that go by the teacher alone"
        )
    on_views = [replace(term, view=view) for view in views for term in taught]
    return replace(stage, terms=(*stage.terms, *on_views))
