"""The command line: `reverie COMMAND …`. Each command is a function; its docstring and types are its help."""

import io
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

# Must be set before torch is imported. Threads that spin for long while they wait make a busy small machine several
# times slower; threads that sleep at once make a quiet one slower by half. A thousand turns is a few microseconds.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

from reverie.core.errors import BadInput
from reverie.flags import called

FULL = "not enough memory; try fewer examples at once, a smaller --training.batch or --model.width"


def main(argv: Sequence[str] | None = None) -> None:
    """Runs one command and exits: 0 when it did what was asked, 2 for bad input, 130 after Ctrl-C."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # the name of a file need not be UTF-8
    try:
        sys.exit(_dispatch(arguments))
    except BadInput as error:
        _fail(str(error), 2)
    except KeyboardInterrupt as stop:
        _fail(str(stop) or "stopped", 130)
    except ArithmeticError as error:
        _fail(str(error), 1)
    except MemoryError:
        _fail(FULL, 1)
    except RuntimeError as error:
        if "allocate memory" not in str(error) and "out of memory" not in str(error):
            raise
        _fail(FULL, 1)
    except BrokenPipeError:
        os._exit(141)  # the reader of our output went away, as `| head` does
    except OSError as error:  # of a path that may not be looked at, or is too long; of an output that is full
        _fail(f"{str(error.filename or 'the output')[:80]}: {error.strerror}; choose another place", 2)


def _dispatch(arguments: list[str]) -> int:
    if arguments[:1] == ["--version"]:
        from importlib.metadata import version

        print(f"reverie {version('reverie')}")
        return 0
    commands = _commands()
    name = arguments[0] if arguments else "--help"
    if name in ("-h", "--help", "help"):
        width = max(map(len, commands))
        print("usage: reverie COMMAND [-h] …\n\nMachines that dream.\n")
        for key, (_, text) in commands.items():
            print(f"  {key:{width}}  {text}")
        return 0
    if name not in commands:
        raise BadInput(f"no command {name!r}; one of {', '.join(commands)}")
    return commands[name][0](arguments[1:]) or 0


def _commands() -> dict[str, tuple[Callable[[list[str]], int | None], str]]:
    """Name -> (takes the rest of the line, one line of help). torch is imported only when a command needs it."""
    from reverie import analysis, commands, train, verdicts

    def of(function: Callable[..., Any]) -> tuple[Callable[[list[str]], int | None], str]:
        return (
            lambda line: called(function, line),
            (function.__doc__ or "").splitlines()[0],
        )

    making = commands.dream, commands.repair, commands.morph, commands.edit, commands.mix
    judging = verdicts.surprise, verdicts.classify, verdicts.evaluate, verdicts.compare, verdicts.report
    table = {
        function.__name__: of(function)
        for function in (commands.data, *making, analysis.forecast, *judging, analysis.analyse)
    }
    return {"data": table.pop("data"), "train": (train.train, (train.train.__doc__ or "").splitlines()[0])} | table


def _fail(message: str, code: int) -> None:
    print("reverie: " + " ".join(message.split()), file=sys.stderr)
    sys.stderr.flush()
    sys.exit(code)
