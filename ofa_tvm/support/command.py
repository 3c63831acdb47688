"""What all commands share: parsing, exit codes, and one JSON object or a table on stdout."""

from __future__ import annotations

import errno
import functools
import inspect
import io
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from ofa_tvm.support.console import detail, set_level, warn
from ofa_tvm.support.dtype import DType
from ofa_tvm.support.errors import HostFault, OfaTvmError, PartialResult, UserError
from ofa_tvm.support.files import Record, home, writes
from ofa_tvm.support.host_faults import AGAIN
from ofa_tvm.support.json_text import json_text

SCHEMA_VERSION = 1
INTERRUPTED = 130
ENDING = {signal.SIGTERM: (143, "terminated"), signal.SIGHUP: (129, "the terminal is gone")}
"""Signals that end a command, with its exit code and the word for it."""
MORE_MEMORY = "end other programs, or raise the limit (ulimit -v, the container's), or ask for less at once"
GOES_ON = "what was done is saved, the same command goes on from there"
ASK_VERSIONS = (sys.executable, "-m", "ofa_tvm", "--version")
STEPS_BEFORE = "OFA_TVM_STEPS_BEFORE"
"""Set for a command that is a step of another one, which tells how to go on: the verbs of the steps before it."""
STARTS_AGAIN = "nothing was changed, the same command starts again"
ONLY_SAYING = ("dry_run", "coverage")
"""Options with which no command changes anything."""

SUPERNET = "Supernet: a training's folder, a checkpoint, an official OFA file, or the name of one that ships"
"""Help text of the options that take a supernet."""

DeviceOption = Annotated[
    str | None,
    typer.Option(
        help="Where code runs: local, pack, estimate, rpc:HOST:PORT[:KEY], emulated, or replay:FOLDER, a tuning "
        "log that answers in its place (default: the target's)."
    ),
]
BatchOption = Annotated[int | None, typer.Option(min=1, help="Images of one call instead of the target's.")]
DTypeOption = Annotated[
    DType | None,
    typer.Option(
        help="int8: maps and weights of one byte, on CPUs; bfloat16: of two, on some CPUs; float16: of two, on GPUs "
        "and some ARM CPUs. Accuracy is measured."
    ),
]
LogsOption = Annotated[
    Path | None,
    typer.Option(help="Folder of tuning logs (default: one of your own, begun from the logs that ship)."),
]
ArchOption = Annotated[
    list[str] | None,
    typer.Option(
        help="File of subnets (OFA's ks, e, d, r, as JSON, Python or CSV; keys; a net.config), a folder, or -."
    ),
]
HostThreadsOption = Annotated[
    int | None,
    typer.Option(min=1, max=1024, help="Threads for torch on this machine (default: the cores that are idle now)."),
]
JsonFlag = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on stdout instead of text; of an error, too.")
]


def _show_versions(is_wanted: bool) -> None:
    if is_wanted:
        raise typer.Exit(subprocess.run(ASK_VERSIONS, check=False).returncode)


_QuietFlag = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but results, warnings and errors.")]
_VerboseFlag = Annotated[
    bool, typer.Option("--verbose", "-v", help="Say more, with times, and where an error was raised.")
]
_VersionFlag = Annotated[
    bool,
    typer.Option(
        "--version", is_eager=True, callback=_show_versions, help="The versions of this package and of its stack."
    ),
]
_OF_EVERY_COMMAND = {"quiet": _QuietFlag, "verbose": _VerboseFlag, "version": _VersionFlag}


class _Terminated(Exception):
    pass


def _terminate(number: int, frame: FrameType | None) -> None:
    raise _Terminated(number)


class _Interrupted(KeyboardInterrupt):
    """Not the usual class: where that passes ``exec`` of a text (dataclasses, torch), Python ends by the signal."""


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise _Interrupted


def run_command(
    function: Callable[..., None], argv: Sequence[str] | None = None, verb: str | None = None, saved: str = STARTS_AGAIN
) -> int:
    """Parse arguments, run a command, and turn errors into a message and an exit code.

    Args:
        function: the command; its typed parameters are its options.
        argv: arguments; None for those of the process.
        verb: the command's name; None for the function's name.
        saved: what an interrupted run leaves that wrote something, and what the same command does then.

    Returns:
        0 done, 1 failed, 2 bad input, 3 partial, 4 infeasible, 5 device unreachable, 129, 130 or 143 interrupted.
    """
    words = sys.argv[1:] if argv is None else list(argv)
    name = f"python -m ofa_tvm.{verb or function.__name__}"
    begun: list[bool] = []
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a file's name may be no text
            stream.reconfigure(errors="backslashreplace")
    if "--out=" in words or any(pair == ("--out", "") for pair in pairwise(words)):  # a Path would be this folder
        empty = UserError("--out is empty", "name a folder or file; . is this folder")
        return int(_ended(empty.record(), "--json" in words).code or 2)
    app = app_of(_guarded(function, begun, shlex.join([*name.split(), *words]), saved))
    try:
        app(args=words, prog_name=name)
    except SystemExit as ended:
        code = int(ended.code or 0)
        if code and not begun and "--json" in words:
            _tell({"code": code, "reason": "the options cannot be understood; stderr says why", "hint": "see --help"})
        return code
    return 0


def app_of(function: Callable[..., None]) -> typer.Typer:
    """A command with its own options and those that every command has."""
    own = inspect.signature(function, eval_str=True)

    @functools.wraps(function)
    def command(*args: object, quiet: bool, verbose: bool, version: bool, **options: object) -> None:
        if quiet and verbose:
            raise typer.BadParameter("--quiet and --verbose are opposites")
        set_level("quiet" if quiet else "verbose" if verbose else "usual")
        function(*args, **options)

    common = [
        inspect.Parameter(option, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=flag)
        for option, flag in _OF_EVERY_COMMAND.items()
    ]
    command.__signature__ = own.replace(parameters=[*own.parameters.values(), *common])  # type: ignore[attr-defined]
    command.__annotations__ = {**function.__annotations__, **_OF_EVERY_COMMAND}
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command(help=function.__doc__)(command)
    return app


def _guarded(function: Callable[..., None], begun: list[bool], typed: str, saved: str) -> Callable[..., None]:
    @functools.wraps(function)
    def guarded(*args: Any, **options: Any) -> None:
        begun.append(True)
        detail(typed)
        as_json = bool(options.get("json"))
        written = writes()
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, *ENDING)}
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:  # as nohup sets it
                signal.signal(number, _interrupt if number == signal.SIGINT else _terminate)

        def interrupted(code: int, word: str) -> SystemExit:
            if STEPS_BEFORE in os.environ:
                return SystemExit(code)
            is_alone = "WORLD_SIZE" not in os.environ  # torchrun's words are not known here
            is_same = is_alone and writes() == written  # other processes of torchrun write, too
            left = STARTS_AGAIN if is_same or any(map(options.get, ONLY_SAYING)) else saved
            return _ended({"code": code, "reason": f"{word}; {left}", "hint": typed if is_alone else ""}, as_json)

        try:
            function(*args, **options)
        except KeyboardInterrupt:
            raise interrupted(INTERRUPTED, "interrupted") from None
        except _Terminated as ended:
            raise interrupted(*ENDING[ended.args[0]]) from None
        except OfaTvmError as error:
            detail(_raised_at(error))
            raise _ended(error.record(), as_json and not error.is_told) from None
        except ImportError as error:
            raise _ended(_uninstalled(error).record(), as_json) from None
        except BrokenPipeError:
            raise  # the reader of stdout has gone; click ends quietly
        except OSError as error:
            detail(_raised_at(error))
            raise _ended(_refused(error).record(), as_json) from None
        except MemoryError as error:
            detail(_raised_at(error))
            said = " ".join(str(error).split()) or "this process may have no more"
            raise _ended(HostFault(f"out of memory: {said}", f"{MORE_MEMORY}, {AGAIN}").record(), as_json) from None
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    return guarded


def _raised_at(error: BaseException) -> str:
    """Where an error comes from, and what caused it."""
    return "".join(traceback.format_exception(error)).rstrip()


def _ended(error: Record, as_json: bool) -> SystemExit:
    """Report an error on stderr, and as one JSON object on stdout if asked; returns the exit to raise."""
    kind = "" if error["code"] >= 128 else "error: "
    with suppress(OSError):  # the terminal may be gone
        warn("\n  ".join([f"{kind}{error['reason']}", *error.get("hint", "").splitlines()]))
    if as_json:
        _tell(error)
    return SystemExit(error["code"])


def _tell(error: Record) -> None:
    with suppress(OSError):  # stdout may be closed; the exit code still tells
        print(json_text({"schema_version": SCHEMA_VERSION, "error": error}), flush=True)


def _uninstalled(error: ImportError) -> OfaTvmError:
    """A package that is missing or broken."""
    return UserError(f"a package cannot be imported: {error}", "see what 'python -m ofa_tvm.doctor' says of it")


def _refused(error: OSError) -> OfaTvmError:
    """A full disk is the machine's fault; everything else that the system refuses was asked for."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = "there" if error.filename else f"in {Path.cwd()} and {tempfile.gettempdir()} (or set TMPDIR)"
        return HostFault(_os_error(error), f"make room {where}, {AGAIN}")
    return UserError(_os_error(error), _other_folder(error))


def _other_folder(error: OSError) -> str:
    """How to choose another folder, where a file is in the way, or who may use what this user may not."""
    if isinstance(error, FileExistsError | NotADirectoryError):
        return "a file is where a folder is wanted: name another folder, or move the file away"
    if not isinstance(error.filename, str | bytes):
        return ""
    path = Path(os.fsdecode(error.filename))
    with suppress(UserError):
        for variable, folder in (("OFA_TVM_CACHE", home() / ".cache"), ("OFA_TVM_LOGS", home() / ".local")):
            if path.is_relative_to(os.environ.get(variable) or folder):
                return f"set {variable} to a folder that you may write"
    return f"see who may use it: ls -ld {shlex.quote(str(path))}" if isinstance(error, PermissionError) else ""


def _os_error(error: OSError) -> str:
    """A system error on one line: a folder that may not be written, a file in the way, a full disk."""
    said = f"{error.filename}: {error.strerror}" if error.filename and error.strerror else error.strerror or str(error)
    return " ".join(said.split()) or type(error).__name__


def emit(payload: Record, as_json: bool, text: Callable[[], str]) -> None:
    """Print the result on stdout.

    Args:
        payload: the result; ``schema_version`` is added.
        as_json: print it as one JSON object.
        text: makes the text that a person reads instead.
    """
    if as_json:
        print(json_text({"schema_version": SCHEMA_VERSION, **payload}))
    else:
        print(text())


def emit_partly(payload: Record, as_json: bool, text: Callable[[], str], missing: PartialResult | None) -> None:
    """Print the result, then raise what is missing of it, if anything is.

    Raises:
        PartialResult: something is missing.
    """
    emit(payload if missing is None else payload | {"error": missing.record()}, as_json, text)
    if missing is not None:
        missing.is_told = True
        raise missing


def share(value: float | None, error: float | None = None) -> str:
    """A fraction in per cent, with its standard error."""
    if value is None:
        return "-"
    return f"{value:.2%}" if error is None else f"{100 * value:.2f} ± {100 * error:.2f}%"


def table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Plain text table; every column but the first is right-aligned."""
    widths = [max(len(row[column]) for row in [headers, *rows]) for column in range(len(headers))]

    def line(cells: Sequence[str]) -> str:
        first = cells[0].ljust(widths[0])
        return "  ".join([first, *(cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True))])

    return "\n".join([line(headers), line(["-" * width for width in widths]), *(line(row) for row in rows)])
