"""The machine that a plan prices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import hydra
import pytest
from omegaconf import OmegaConf

from micota.config import conf_folder
from micota.config.hardware import HardwareConfig, device_of
from micota.costs import machine
from micota.costs.machine import machine_of
from micota.errors import ConfigError
from micota.machine import Gpu

Composed = Callable[..., Any]


@pytest.mark.parametrize(("name", "option"), [
    ("NVIDIA H100 80GB HBM3", "h100x1"), ("NVIDIA H100 PCIe", "h100pciex1"), ("NVIDIA H100 NVL", "h100nvlx1"),
    ("NVIDIA GH200 480GB", "gh200x1"), ("NVIDIA H200", "h200x1"), ("NVIDIA A100-SXM4-80GB", "a100x1"),
    ("NVIDIA A800-SXM4-80GB", "a800x1"), ("NVIDIA A10", "a10x1"), ("NVIDIA GeForce RTX 4090", "rtx4090x1"),
    ("NVIDIA H800", "h100x1"), ("NVIDIA H20", "h20x1"), ("NVIDIA L4", "l4x1"), ("NVIDIA L40", "l40x1"),
    ("NVIDIA L40S", "l40sx1"), ("NVIDIA A10G", "a10gx1"), ("NVIDIA B300 SXM6 AC", "b300x1"),
    ("NVIDIA GB200", "gb200x1"), ("NVIDIA RTX 6000 Ada Generation", "rtx6000adax1"),
    ("NVIDIA GeForce RTX 5090", "rtx5090x1"),
])  # fmt: skip
def test_a_driver_s_name_leads_to_the_data_sheet(name: str, option: str) -> None:
    device = device_of(name)
    assert device is not None and device.option == option
    assert device_of("NVIDIA T4") is None
    assert device_of("NVIDIA RTX A4000") is None, "it is no A40"


def test_this_machine_is_its_gpus_or_its_cpu(composed: Composed, monkeypatch: pytest.MonkeyPatch) -> None:
    config = composed("pipeline", "experiment=tiny")
    monkeypatch.setattr(machine, "gpus", lambda: ())
    monkeypatch.setattr(machine, "num_cores", lambda: 8)
    here = machine_of(config)
    assert (here.accelerator, here.num_devices, here.device, here.is_here) == ("cpu", 1, "CPU core", True)
    assert here.peak_flops == 0.05e12, "num_threads=1 uses one core"
    found = (Gpu(name="NVIDIA A100-SXM4-40GB", memory_bytes=40 * 2**30),) * 4
    monkeypatch.setattr(machine, "gpus", lambda: found)
    here = machine_of(config)
    assert (here.num_devices, here.memory_bytes, here.peak_flops) == (4, 40 * 2**30, 312e12)
    assert here.training == 0.45 and here.is_here
    assert not machine_of(composed("pipeline", "hardware=h100x8")).is_here
    monkeypatch.setattr(machine, "gpus", lambda: (Gpu(name="NVIDIA T4", memory_bytes=2**34),))
    with pytest.raises(ConfigError, match="hardware=auto: the GPU 'NVIDIA T4' is not known; accepted: hardware=NAME"):
        machine_of(config)


def test_every_option_is_a_whole_machine(composed: Composed) -> None:
    names = [path.stem for path in (conf_folder() / "hardware").glob("[!_]*.yaml") if path.stem != "auto"]
    assert {"h100x1", "h100x8", "a100x8", "a800x8", "h200x1", "rtx4090x1", "cpu"} <= {*names}
    config = composed("train")
    for name in names:  # the option alone, which takes a fifth of the time of a command's config
        option = OmegaConf.merge(HardwareConfig, hydra.compose(f"hardware/{name}").hardware)
        found = machine_of(replace(config, hardware=OmegaConf.to_object(option)))
        assert found.name == name and found.num_devices == (8 if name.endswith("x8") else 1)
    with pytest.raises(ConfigError, match=r"hardware\.peak_tflops is null"):
        machine_of(composed("train", "hardware=h100x1", "hardware.peak_tflops=null"))
