"""The versions that a record names."""

from __future__ import annotations

import torch

from hf_distill.versions import PACKAGES, package_versions


def test_a_record_names_the_version_that_really_runs():
    found = package_versions()
    assert set(found) == set(PACKAGES)
    assert found["torch"].split("+")[0] == torch.__version__.split("+")[0]
