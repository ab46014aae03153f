"""Metrics: plain functions for the tasks, and the same numbers as `evaluate` modules that load without network."""

from __future__ import annotations

from hf_distill.metrics.loading import METRICS, load_metric, metric_folder

__all__ = ["METRICS", "load_metric", "metric_folder"]
