"""Data sets of the Hub, pinned to the commit that is read; also folders that `load_dataset` reads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from huggingface_hub.errors import RevisionResolutionError

from hf_distill.wording import did_you_mean


class HubData:
    """A data set of the Hub, or a folder that `load_dataset` reads.

    Args:
        hub: Its id, or the folder.
        name: Its configuration.
        revision: Branch, tag or commit.
        instead: What one can do without a network, for messages.

    Raises:
        ValueError: It is out of reach.
    """

    def __init__(self, hub: str, *, name: str | None, revision: str | None, instead: str) -> None:
        self.hub, self._name, self._revision, self._instead = hub, name, revision, instead
        self.commit = None if Path(hub).is_dir() else self._try(self._resolve)

    @property
    def source(self) -> str:
        """Its id with the commit that is read."""
        return f"{self.hub}@{self.commit}" if self.commit else self.hub

    def rows(self, split: str) -> Any:
        """Return a split as a `datasets.Dataset`.

        Raises:
            ValueError: There is no such split, or it is out of reach.
        """
        # Slow to import, and what lies on this machine often does without it.
        from datasets import load_dataset

        return self._try(lambda: load_dataset(self.hub, name=self._name, split=split, revision=self.commit))

    def _resolve(self) -> str:
        return str(HfApi().resolve_revision(self.hub, repo_type="dataset", revision=self._revision))

    def _try(self, ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except (RevisionResolutionError, OSError, ValueError) as error:
            wanted = f"{self.hub!r}" + (f", configuration {self._name!r}" if self._name else "")
            at = f" at revision {self._revision!r}" if self._revision else ""
            raise ValueError(
                f"data.hub: cannot read the data set {wanted}{at}: {error}\nWithout a network, download it first "
                f"where there is one (`hf download --repo-type dataset {self.hub}`) and take the cache along, or "
                f"{self._instead}."
            ) from error


def check_column(rows: Any, column: str, *, key: str, source: str) -> None:
    """Refuse a table without a column.

    Args:
        rows: A `datasets.Dataset`.
        column: The column wanted.
        key: The key of the recipe that names it.
        source: Where the rows come from.

    Raises:
        ValueError: With the columns there are.
    """
    if column not in rows.column_names:
        hint, columns = did_you_mean(column, rows.column_names), ", ".join(rows.column_names)
        raise ValueError(f"{key}: {source!r} has no column {column!r}.{hint} Its columns: {columns}.")
