"""Teachers with quantised weights: through the quantisers of transformers (bitsandbytes, torchao, quanto, ...)."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING, AutoHfQuantizer, AutoQuantizationConfig
from transformers.utils.quantization_config import QuantizationConfigMixin

TORCHAO = "torchao"


class Quantization(NamedTuple):
    """How a teacher's weights are quantised when they are loaded.

    Attributes:
        spec: As given.
        config: What transformers makes of it.
    """

    spec: dict[str, Any]
    config: QuantizationConfigMixin

    def load_arguments(self, device: torch.device | None) -> dict[str, Any]:
        """Return what `from_pretrained` is given beside; the weights are quantised on the device where they stay."""
        placed = {} if device is None or device.type == "cpu" else {"device_map": {"": device}}
        return {"quantization_config": self.config, **placed}

    def weight_bytes(self, model: PreTrainedModel) -> float:
        """Return what the weights of a model, which may be on the meta device, take once they are quantised."""
        quantizer: Any = AutoHfQuantizer.from_config(self.config, pre_quantized=False)
        size = quantized_element_size(self, quantizer)
        kept = quantizer.get_modules_to_not_convert(model, None, model._keep_in_fp32_modules)
        total = 0.0
        for name, parameter in model.named_parameters():
            module = model.get_submodule(name.rpartition(".")[0])
            quantised = isinstance(module, nn.Linear) and name.endswith("weight") and not _is_in(name, kept)
            total += parameter.numel() * (size if quantised else parameter.element_size())
        return total


def build_quantization(spec: Mapping[str, Any] | None, *, path: str = "quantization") -> Quantization | None:
    """Return how to quantise, after making sure that it can be done here; None for None.

    Args:
        spec: `quant_method` and the fields of transformers' configuration of that method: {load_in_4bit: true},
            {quant_method: quanto, weights: int8}, {quant_method: torchao, quant_type: Int8WeightOnlyConfig}.
        path: Where it stands, for error messages.

    Raises:
        ValueError: An unknown method or field, a value that the method refuses, or its package or device is missing.
    """
    if spec is None:
        return None
    method = _method(spec, path)
    cls = AUTO_QUANTIZATION_CONFIG_MAPPING[method]
    known = [name for name in inspect.signature(cls.__init__).parameters if name not in ("self", "kwargs")]
    unknown = sorted(set(spec) - {*known, "quant_method"})
    if unknown:
        raise ValueError(f"{path}.{unknown[0]}: {method} has no such field; it has {', '.join(known)}")
    try:
        config = AutoQuantizationConfig.from_dict(_written_out(spec, path))
        AutoHfQuantizer.from_config(config, pre_quantized=False).validate_environment(device_map=None)
    except (ImportError, RuntimeError, TypeError, ValueError, AssertionError) as error:
        raise ValueError(f"{path}: {method} cannot be used here: {error}") from error
    return Quantization(dict(spec), config)


def quantized_element_size(quantization: Quantization, quantizer: Any) -> float:
    """Return the bytes that one quantised number takes, scales left out."""
    spec = quantization.spec
    if spec.get("load_in_4bit"):
        return 0.5
    if quantizer.quantized_element_size is not None:
        return float(quantizer.quantized_element_size)
    return {"int4": 0.5, "int2": 0.25}.get(str(spec.get("weights")), 1.0)


def replace_parts(model: nn.Module, load: Callable[[], nn.Module], *, what: str) -> None:
    """Put the parts of another model into one that wrappers hold; its own are dropped first, to make room.

    Args:
        model: Of no use where this raises.
        load: Returns the other one.
        what: Is loaded, for error messages.

    Raises:
        ValueError: The other one has other parameters.
    """
    expected = _shapes(model)
    for parts in (model._modules, model._parameters, model._buffers):
        parts.clear()
    other = load()
    if _shapes(other) != expected:
        wrong = sorted(set(_shapes(other).items()) ^ set(expected.items()))
        raise ValueError(
            f"{what} does not fit the teacher in memory: {wrong[0][0]} {wrong[0][1]}. All revisions of a sequence "
            "must have one architecture"
        )
    model._modules.update(other._modules)
    model._parameters.update(other._parameters)
    model._buffers.update(other._buffers)


def _shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}


def _method(spec: Mapping[str, Any], path: str) -> str:
    if spec.get("load_in_4bit") or spec.get("load_in_8bit"):
        return "bitsandbytes_4bit" if spec.get("load_in_4bit") else "bitsandbytes_8bit"
    method = spec.get("quant_method")
    if method not in AUTO_QUANTIZATION_CONFIG_MAPPING:
        raise ValueError(
            f"{path}.quant_method: expected one of {', '.join(sorted(AUTO_QUANTIZATION_CONFIG_MAPPING))}, or "
            f"load_in_8bit or load_in_4bit for bitsandbytes; got {method!r}"
        )
    return str(method)


def _written_out(spec: Mapping[str, Any], path: str) -> dict[str, Any]:
    """Return the fields as transformers reads them; torchao's class may be given by its name alone."""
    if spec.get("quant_method") != TORCHAO:
        return dict(spec)
    given = spec.get("quant_type")
    fields = {"name": given} if isinstance(given, str) else dict(given or {})
    if "default" in fields:
        return dict(spec)
    name = fields.pop("name", None)
    if not isinstance(name, str):
        raise ValueError(
            f"{path}.quant_type: expected a class of torchao.quantization, such as Int8WeightOnlyConfig, or "
            f"{{name: ..., **fields}}; got {given!r}"
        )
    return {**spec, "quant_type": {"default": _torchao_config(name, fields, path)}}


def _torchao_config(name: str, fields: dict[str, Any], path: str) -> dict[str, Any]:
    try:
        from torchao import quantization
        from torchao.core.config import config_to_dict
    except ImportError:
        raise ValueError(f"{path}: torchao is not installed; install it (pip install torchao)") from None
    cls = vars(quantization).get(name)
    if not isinstance(cls, type):
        raise ValueError(f"{path}.quant_type: torchao.quantization has no {name}")
    try:
        return config_to_dict(cls(**fields))
    except TypeError as error:
        raise ValueError(f"{path}.quant_type: {error}") from error


def _is_in(name: str, modules: list[str]) -> bool:
    return any(name == one or name.startswith(f"{one}.") or f".{one}." in f".{name}" for one in modules)
