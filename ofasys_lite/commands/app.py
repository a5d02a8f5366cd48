"""`ofasys-lite VERB ...`: finds the verb, imports it alone, prints mistakes without a traceback."""

from __future__ import annotations

import importlib
import io
import os
import sys
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from ofasys_lite.errors import OfasysError, did_you_mean
from ofasys_lite.signals import AtOnce, Interrupted, preparing
from ofasys_lite.version import __version__
from ofasys_lite.writing import reason

#: Verb -> (module with `main(arguments) -> exit code`, one line of help).
VERBS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "check": ("ofasys_lite.commands.check", "hold tasks or a line against their data, without building a model"),
        "explain": ("ofasys_lite.commands.explain", "say what a line or task means, and what it costs"),
        "fmt": ("ofasys_lite.commands.fmt", "write lines and cards in their canonical form"),
        "train": ("ofasys_lite.commands.train", "train one model on one or many tasks"),
        "evaluate": ("ofasys_lite.commands.evaluate", "score a run on its tasks, beside their baselines"),
        "predict": ("ofasys_lite.commands.predict", "use a trained model on one sample, or on many rows"),
        "report": ("ofasys_lite.commands.report", "write report.html once more"),
        "codec": ("ofasys_lite.commands.codec", "train an image codec, write its codes, look at its pictures"),
        "import": ("ofasys_lite.commands.import_weights", "make a run of weights of OFASys, fairseq or Hugging Face"),
        "export": ("ofasys_lite.commands.export_run", "write a model as files of Hugging Face, fairseq or ONNX"),
        "data": ("ofasys_lite.commands.data", "list, prepare and show the data sets of the quickstart"),
    }
)


#: Several ranks of it end together.
_TOGETHER = "ofasys_lite.commands.train"
#: Libraries that read configurations: what they raise is about a value, and no fault of the program.
_READERS = ("omegaconf", "hydra", "yaml", "antlr4")


def usage() -> str:
    """What `--help` prints."""
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {verb:<{width}}  {help}" for verb, (_, help) in VERBS.items())
    return (
        "usage: ofasys-lite VERB ...\n\n"
        "One line of text declares a multi-modal task; one shared encoder-decoder learns all the tasks at once.\n\n"
        f"verbs:\n{verbs}\n\n"
        "`ofasys-lite VERB --help` says more; `ofasys-lite --version` prints the version."
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code of one command: 0, 1 for a mistake that was printed, 2 for a verb that does not exist.

    A signal that asks it to end gives 128 + its number: 130 for Ctrl-C, 143 for SIGTERM.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        # marks of tables, names of files and texts of rows may be none of the terminal's encoding
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="backslashreplace")
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return 0 if arguments else 2
    if arguments[0] in ("-V", "--version"):
        print(f"ofasys_lite {__version__}")
        return 0
    verb, *rest = arguments
    if verb not in VERBS:
        print(f"ofasys-lite: unknown verb `{verb}`\n  help: {did_you_mean(verb, VERBS, 'verbs')}", file=sys.stderr)
        return 2
    _see_working_directory()
    return _run(VERBS[verb][0], rest)


def _run(module: str, arguments: list[str]) -> int:
    """Runs a verb and turns what a user can cause into messages and exit codes."""
    try:
        # a rank of several that left before the others hear of it would have them wait for it
        with preparing() if module == _TOGETHER else AtOnce():
            code: int = importlib.import_module(module).main(arguments)
    except OfasysError as error:
        print(error, file=sys.stderr)
        return 1
    except Interrupted as stop:
        if stop.code:
            print(f"stopped by {stop.name}", file=sys.stderr)
        return int(stop.code or 0)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # the reader of our output went away (`| head`); Python would complain once more while it closes stdout
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        told = reason(error)
        if told is None:
            raise
        place = "" if error.filename is None else f"{error.filename}: "
        print(f"{place}{(error.strerror or told[0]).lower()}\n  help: {told[1]}", file=sys.stderr)
        return 1
    except Exception as error:
        said = _told_by_a_library(error)
        if said is None:  # a fault of ours, which nobody can mend without its traceback
            raise
        print(said, file=sys.stderr)
        return 1
    return code


def _told_by_a_library(error: Exception) -> str | None:
    """What a reader of configurations says of a user's value, in two lines; None for any other error."""
    library = type(error).__module__.partition(".")[0]
    if library not in _READERS and type(error).__name__ != "MisconfigurationException":
        return None
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{lines[0] if lines else type(error).__name__}\n  help: so says {library}: look at the values given last"


def _see_working_directory() -> None:
    """Puts the working directory on the import path: a console script does not see modules there by itself."""
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
