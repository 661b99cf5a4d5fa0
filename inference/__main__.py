"""The `clinfer` command: each subcommand is one file of `inference.commands`.

Exit codes: 0 done, 2 wrong usage, 3 input refused, 4 no applicable model, 5 failed. On an exit
other than 0 the last line of standard error is ``error[code]: what happened``.
"""

from __future__ import annotations

import sys
from typing import Annotated, NoReturn

import typer
from typer.exceptions import TyperException

from inference.commands import (
    batch,
    check,
    demo,
    evaluate,
    fetch,
    keys,
    models,
    people,
    recall,
    run,
    serve,
    signal,
    train,
    why,
)
from inference.commands.failures import EXIT_USAGE, exit_code_and_line

app = typer.Typer(
    name="clinfer",
    help="Clinical AI inference: DICOM in, overlays and reports out. Decision support only.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.command("run")(run.run)
app.command("signal")(signal.signal)
app.command("serve")(serve.serve)
app.command("demo")(demo.demo)
app.command("batch")(batch.batch)
app.command("why")(why.why)
app.command("recall")(recall.recall)
app.command("fetch")(fetch.fetch)
app.command("train")(train.train)
app.command("evaluate")(evaluate.evaluate)
app.add_typer(models.app, name="models")
app.add_typer(keys.app, name="keys")
app.add_typer(people.app, name="people")
app.add_typer(check.app, name="check")


def _version(is_asked: bool) -> None:
    if is_asked:
        from inference.version import SOFTWARE_VERSION

        typer.echo(f"clinfer {SOFTWARE_VERSION}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say the version.")
    ] = False,
) -> None:
    """Take the options that stand before a command."""


def main() -> None:
    """Run the command line; the one place where an error becomes an exit code."""
    try:
        ended_with = app(standalone_mode=False)  # the code of typer's Exit, 130 after Ctrl-C
        if isinstance(ended_with, int):
            sys.exit(ended_with)
    except typer.Abort:
        _end(130, "error[interrupted]: stopped by Ctrl-C; nothing was written")
    except typer.Exit as ended:
        sys.exit(ended.exit_code)
    except TyperException as error:  # typer's own: an option is missing or wrong
        message = " ".join(getattr(error, "format_message", error.__str__)().split())
        if not message:  # `clinfer` alone has shown its help
            sys.exit(EXIT_USAGE)
        _end(EXIT_USAGE, f"error[usage]: {message} (`--help` tells more)")
    except KeyboardInterrupt:
        _end(130, "error[interrupted]: stopped by Ctrl-C; nothing was written")
    except Exception as error:  # noqa: BLE001 - the process boundary: every failure gets its line
        _end(*exit_code_and_line(error))


def _end(code: int, line: str) -> NoReturn:
    sys.stderr.write(line + "\n")
    sys.exit(code)


if __name__ == "__main__":
    main()
