"""The teacher that a student is to be cut out of: found, pinned, and loaded as the class that it was saved as."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    MODEL_FOR_PRETRAINING_MAPPING,
    MODEL_FOR_QUESTION_ANSWERING_MAPPING,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING,
    MODEL_MAPPING,
)

from hf_distill.student_making.families import family_of
from hf_distill.student_making.origin import StudentOrigin
from hf_distill.teachers.revisions import Revision, TeacherEntries, folder_of, resolve_revisions

_MAPPINGS = (
    MODEL_MAPPING,
    MODEL_FOR_PRETRAINING_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING,
    MODEL_FOR_QUESTION_ANSWERING_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
)


class FoundTeacher(NamedTuple):
    """A teacher on disk.

    Attributes:
        revision: The final one, with its pin.
        folder: Where its files lie.
    """

    revision: Revision
    folder: Path

    @property
    def config(self) -> PreTrainedConfig:
        """Its configuration."""
        return AutoConfig.from_pretrained(self.folder)

    def named_in(self, origin: StudentOrigin, *, data: str | None = None) -> StudentOrigin:
        """Return a student's origin with this teacher's name and pin.

        Args:
            origin: Of a student that was cut out of this teacher.
            data: What layers or units were chosen by.
        """
        one = self.revision
        return replace(origin, teacher=one.source, revision=one.revision, commit=one.commit, data=data)

    def load(self, auto_class: Any = None) -> PreTrainedModel:
        """Load it, in its own number format.

        Args:
            auto_class: An `AutoModelFor...` class; by default the class that it was saved as.

        Raises:
            ValueError: Its architecture is not known, or its weights cannot be read.
        """
        config = self.config
        family_of(config)
        loader: Any = auto_class if auto_class is not None else class_of(config)
        try:
            return loader.from_pretrained(self.folder, dtype="auto", use_safetensors=True)
        except OSError as error:
            raise ValueError(f"{self.folder} cannot be loaded: {error}") from error


def find_teacher(source: TeacherEntries, **options: Any) -> FoundTeacher:
    """Find and pin the final revision of a teacher; one of the Hub is downloaded where the cache lacks it.

    Args:
        source: A folder, `org/model`, `org/model@revision`, a Trainer's output folder, ...
        **options: `allow_pickled_weights`, `cache_dir` and others of `folder_of`.

    Raises:
        ValueError: It does not exist, or is not whole.
    """
    known = {key: value for key, value in options.items() if key in ("allow_pickled_weights", "cache_dir", "token")}
    revision = resolve_revisions(source, **known)[-1]
    return FoundTeacher(revision, folder_of(revision, **options))


def final_config(source: TeacherEntries, *, allow_pickled_weights: bool = False) -> PreTrainedConfig:
    """Return the configuration of a teacher's final revision, without downloading its weights.

    Raises:
        ValueError: It does not exist, or gives no configuration.
    """
    revision = resolve_revisions(source, allow_pickled_weights=allow_pickled_weights)[-1]
    if revision.revision is None:
        return AutoConfig.from_pretrained(folder_of(revision, allow_pickled_weights=allow_pickled_weights))
    try:
        return AutoConfig.from_pretrained(
            revision.source, revision=revision.commit, subfolder=revision.subfolder or ""
        )
    except OSError as error:
        raise ValueError(f"{revision}: its configuration cannot be had: {error}") from error


def class_of(config: PreTrainedConfig) -> Callable[..., Any]:
    """Return the class that a model was saved as.

    Raises:
        ValueError: Its configuration names none that transformers has for it.
    """
    names = list(config.architectures or [])
    there: dict[str, Any] = {}
    for mapping in _MAPPINGS:
        found = mapping.get(type(config), ())
        there |= {one.__name__: one for one in (found if isinstance(found, tuple) else (found,))}
    if not names or names[0] not in there:
        raise ValueError(
            f"config.json names the architecture {names[0] if names else None!r}, which cannot be loaded here; a "
            f"{config.model_type!r} model can be {', '.join(sorted(there))}"
        )
    return there[names[0]]
