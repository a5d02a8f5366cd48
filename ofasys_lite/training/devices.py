"""Whether the devices that a run asks for are there, told before any data is read."""

from __future__ import annotations

import torch

from ofasys_lite.errors import CardError
from ofasys_lite.training.settings import TrainSettings

__all__ = ["check_devices"]


def check_devices(settings: TrainSettings) -> None:
    """Returns if this machine has what `accelerator` and `devices` ask for.

    Raises:
        CardError: It has not; says what it has.
    """
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if settings.accelerator == "cuda" and not there:
        why = "this build of torch is for CPUs" if torch.version.cuda is None else "torch sees none: driver, container?"
        raise CardError(
            "trainer: accelerator is `cuda`, and there is no CUDA device",
            help=f"trainer=cpu, or trainer.accelerator=auto, which takes what there is ({why})",
        )
    if settings.accelerator == "cpu" or not there:
        if settings.devices == -1:
            raise CardError(
                "trainer: devices is -1, and a CPU is not several devices",
                help="say how many processes: trainer.devices=2, with trainer.precision=fp32 trainer.compile=false",
            )
    elif settings.devices > there:
        raise CardError(
            f"trainer: devices is {settings.devices}, and there are {there} CUDA devices",
            help=f"at most {there}, or -1",
        )
