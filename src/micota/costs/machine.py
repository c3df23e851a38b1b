"""The machine that a plan prices: one that is named, or this one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from omegaconf import OmegaConf

from micota.artifacts.provenance import num_cores
from micota.config import Config, HardwareConfig, conf_folder
from micota.config.hardware import device_of
from micota.errors import ConfigError
from micota.machine import gpus

GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A machine with all its numbers: FLOP/s, bytes a second and bytes of one device, and assumed efficiencies.

    ``is_here`` says whether it is the machine of this process, on which speeds can have been measured.
    """

    name: str
    device: str
    accelerator: str
    num_devices: int
    memory_bytes: int
    peak_flops: float
    bandwidth: float
    training: float
    prefill: float
    decode: float
    hf: float
    is_here: bool

    @property
    def label(self) -> str:
        """``h100x8 (8 x H100 80 GB SXM)``."""
        return f"{self.name} ({self.num_devices} x {self.device})"


TYPICAL = "h100x8"  # of clusters


def machine_of(config: Config, *, sizing: bool = False) -> Machine:
    """The machine that ``hardware`` names; with ``auto`` this one: its GPUs, or its CPU.

    Args:
        sizing: for jobs on other machines: where this one has no GPU and ``hardware`` names none, a typical one.

    Raises:
        ConfigError: this machine has a GPU that is not known, or the hardware lacks a number.
    """
    hardware = config.hardware
    found = gpus()
    if hardware.name == "auto" and found:
        device = device_of(found[0].name)
        if device is None:
            raise ConfigError(
                f"hardware=auto: the GPU {found[0].name!r} is not known; accepted: hardware=NAME of a similar one, "
                "with hardware.peak_tflops, hardware.bandwidth_gb_s and hardware.memory_gib of yours"
            )
        here = _option(device.option)
        hardware = replace(here, num_devices=len(found), memory_gib=found[0].memory_bytes / GIB, name="this machine")
    elif hardware.name == "auto" and sizing and config.uses_gpu:
        hardware = replace(_option("h100x1"), name=TYPICAL, num_devices=8)
    elif hardware.name == "auto":
        hardware = replace(_option("cpu"), name="this machine")
    is_here = hardware.name == "this machine" or _same(hardware)
    if hardware.accelerator == "cpu":
        hardware = _of_cores(hardware, config.num_threads)
    return _machine(hardware, is_here=is_here)


def _option(name: str) -> HardwareConfig:
    """An option of the group ``hardware``. Its files have no other defaults than ``_gpu``."""
    folder = conf_folder() / "hardware"
    layers: list[Any] = [OmegaConf.structured(HardwareConfig)]
    layers += [OmegaConf.load(folder / "_gpu.yaml")] if name != "cpu" else []
    read = OmegaConf.merge(
        *layers, {k: v for k, v in OmegaConf.load(folder / f"{name}.yaml").items() if k != "defaults"}
    )
    made = OmegaConf.to_object(read)
    assert isinstance(made, HardwareConfig)
    return made


def _same(hardware: HardwareConfig) -> bool:
    """Whether the devices of this machine are those that an option names."""
    found = gpus()
    if hardware.accelerator == "cpu":
        return not found
    device = device_of(found[0].name) if found else None
    return device is not None and device.device == hardware.device


def _of_cores(hardware: HardwareConfig, num_threads: int | None) -> HardwareConfig:
    """The CPU as one device: ``num_threads`` cores (by default all), and the memory of the machine."""
    import psutil

    cores = min(num_cores(), num_threads or num_cores())
    memory = hardware.memory_gib or psutil.virtual_memory().total / GIB
    peak, bandwidth = hardware.peak_tflops or 0.0, hardware.bandwidth_gb_s or 0.0
    label = "CPU core" if cores == 1 else f"CPU of {cores} cores"
    return replace(
        hardware,
        device=label,
        num_devices=1,
        memory_gib=memory,
        peak_tflops=peak * cores,
        bandwidth_gb_s=bandwidth * cores,
    )


def _machine(hardware: HardwareConfig, *, is_here: bool) -> Machine:
    for name in ("device", "accelerator", "num_devices", "memory_gib", "peak_tflops", "bandwidth_gb_s"):
        if getattr(hardware, name) is None:
            raise ConfigError(f"hardware.{name} is null in hardware={hardware.name}; accepted: a value")
    assert hardware.device and hardware.accelerator and hardware.num_devices and hardware.memory_gib
    assert hardware.peak_tflops and hardware.bandwidth_gb_s
    return Machine(
        name=hardware.name,
        device=hardware.device,
        accelerator=hardware.accelerator,
        num_devices=hardware.num_devices,
        memory_bytes=int(hardware.memory_gib * GIB),
        peak_flops=hardware.peak_tflops * 1e12,
        bandwidth=hardware.bandwidth_gb_s * 1e9,
        training=hardware.training_efficiency,
        prefill=hardware.prefill_efficiency,
        decode=hardware.decode_efficiency,
        hf=hardware.hf_efficiency,
        is_here=is_here,
    )
