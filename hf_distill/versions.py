"""Versions of the packages that decide numbers."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("hf-distill", "torch", "transformers", "accelerate", "datasets", "peft", "safetensors", "huggingface_hub")


def package_versions() -> dict[str, str]:
    """Return the installed versions of the packages that decide numbers."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
