"""What a command line asks for, without running it."""

from collections.abc import Sequence
from pathlib import Path

from ofasys_lite.commands.compose import compose, user_folders
from ofasys_lite.commands.run_config import RunConfig, run_config


def load_run_config(overrides: Sequence[str], config_dir: str | Path | None = None) -> RunConfig:
    """The run that `ofasys-lite train` with these overrides would start.

    Args:
        overrides: As on the command line: `["experiment=quickstart", "trainer.workers=0"]`.
        config_dir: The user's own folder of presets and cards, as `--config-dir` gives it.

    Raises:
        CardError: An unknown group, key or card, or a wrong value.
    """
    folders = user_folders(overrides, config_dir)
    return run_config(compose("train", overrides, config_dir), folders)
