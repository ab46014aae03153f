"""A training as `accelerate launch` starts it: what the engine makes of the training arguments."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from builders import distill_trainer


def train_launched(folder: Path, environment: Mapping[str, str], arguments: Mapping[str, Any]) -> None:
    """Train two steps in an environment; note what the DeepSpeed engine was told."""
    os.environ.update(environment)
    trainer = distill_trainer(folder / "run", max_steps=2, **arguments)
    trainer.train()
    engine = trainer.model_wrapped
    told = {"stage": engine.zero_optimization_stage(), "clipping": engine.gradient_clipping()}
    told["norms"] = [entry["grad_norm"] for entry in trainer.state.log_history if "grad_norm" in entry]
    (folder / "told.json").write_text(json.dumps(told))
