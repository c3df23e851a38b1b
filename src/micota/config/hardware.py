"""The schemas of hardware and of the assumptions behind the costs that a plan prints, and the known GPUs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from omegaconf import DictConfig, OmegaConf

from micota.config.fields import fraction, plain, positive, slug, where
from micota.config.folder import conf_folder


@dataclass(kw_only=True)
class HardwareConfig:
    """The machine that a plan prices. Numbers of the devices are of the makers' data sheets, efficiencies are
    assumptions; speeds that were measured on the same machine replace both."""

    name: str = slug(about="Its name; auto: this machine.", results=False)
    device: str | None = plain(None, about="What one device is called.", results=False)
    matches: list[str] = plain(
        default_factory=list, about="Parts of the names by which the driver calls this device.", results=False
    )
    accelerator: str | None = where(
        "cpu, gpu or null",
        lambda value: value in ("cpu", "gpu", None),
        None,
        about="The kind of device.",
        results=False,
    )
    num_devices: int | None = positive(None, about="Devices of one machine.", unit="devices", results=False)
    memory_gib: float | None = positive(None, about="Memory of one device.", unit="GiB", results=False)
    peak_tflops: float | None = positive(
        None,
        about="Peak of one device for dense products in bfloat16 (float32 on a CPU).",
        unit="TFLOP/s",
        results=False,
    )
    bandwidth_gb_s: float | None = positive(
        None, about="Bandwidth of the memory of one device.", unit="GB/s", results=False
    )
    training_efficiency: float = fraction(
        0.35, about="The share of the peak that training reaches (MFU).", results=False
    )
    prefill_efficiency: float = fraction(
        0.5, about="The share of the peak that reading a prompt reaches.", results=False
    )
    decode_efficiency: float = fraction(
        0.5, about="The share of the bandwidth, or of the peak, that vLLM reaches when it generates.", results=False
    )
    hf_efficiency: float = fraction(0.15, about="The same share for transformers (engine=hf).", results=False)


@dataclass(kw_only=True)
class CostConfig:
    """Assumptions of a plan about what is not known before a run."""

    long_tokens: float = positive(
        4000, about="Tokens of a completion of a reasoning model.", unit="tokens", results=False
    )
    middle_tokens: float = positive(2000, about="Tokens of a completion of a merged TA.", unit="tokens", results=False)
    short_tokens: float = positive(600, about="Tokens of a completion of another model.", unit="tokens", results=False)
    prompt_tokens: float = positive(150, about="Tokens of a prompt.", unit="tokens", results=False)
    kept_share: float = fraction(0.85, about="The share of completions that pass the filters.", results=False)
    num_problems: int = positive(
        10_000, about="Rows of problems or of data whose number is not known.", unit="rows", results=False
    )
    discordance: float = fraction(
        0.3,
        about="The share of problems that only one of two models solves, for the detectable difference.",
        results=False,
    )


@dataclass(frozen=True)
class Device:
    """One GPU of the makers' data sheets: dense bf16 TFLOP/s and GB/s. ``option`` is its option of ``hardware``."""

    option: str
    device: str
    peak_tflops: float
    bandwidth_gb_s: float


@cache
def _devices() -> dict[str, Device]:
    """The known devices by the part of a driver's name that shows them, the longest first."""
    found = {}
    for path in sorted((conf_folder() / "hardware").glob("*.yaml")):
        read = OmegaConf.load(path)
        assert isinstance(read, DictConfig)
        for name in read.get("matches", []):
            found[name] = Device(path.stem, read.device, read.peak_tflops, read.bandwidth_gb_s)
    return dict(sorted(found.items(), key=lambda item: -len(item[0])))


def device_of(name: str) -> Device | None:
    """The known device for the name by which a driver calls a GPU, as ``NVIDIA H100 80GB HBM3``."""
    # Whole words: an L40 is no L4, and an RTX A4000 no A40.
    return next((device for part, device in _devices().items() if re.search(rf"\b{part}\b", name)), None)


def device_named(option: str) -> Device:
    """The device of an option of ``hardware`` with one GPU, as ``h100x1``."""
    return next(device for device in _devices().values() if device.option == option)
