"""The commands of `emerseg`, and what becomes of errors: one line on stderr and exit code 2, never a traceback."""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from fusion.cli import options
from fusion.cli.adapt import adapt
from fusion.cli.batch import batch
from fusion.cli.console import printable, safe_streams
from fusion.cli.convert import convert
from fusion.cli.evaluate import evaluate
from fusion.cli.merge import merge
from fusion.cli.segment import masks, relabel, segment
from fusion.cli.serve import serve
from fusion.cli.threads import use_threads, wait_briefly
from fusion.cli.validate import validate
from fusion.cli.web import web
from fusion.evaluation.missing import MissingFilesError
from ground.choices import Dtype
from ground.files import OutOfSpaceError
from ground.weights import WeightsMissing

UsageError: Any = typer.BadParameter.__bases__[0]  # of all that typer raises on wrong use; releases differ in its place


class _OneLineErrors(TyperGroup):
    """A group that ends with one line where the user, or a file, is at fault."""

    def main(self, *args: Any, standalone_mode: bool = True, **kwargs: Any) -> Any:
        kwargs["standalone_mode"] = False
        try:
            code = super().main(*args, **kwargs)
        except UsageError as error:
            # Some releases of typer put the kind of the error that they met before its text.
            code = _fail(error.format_message().replace("Value error, ", ""))
        except typer.Abort:  # what Ctrl-C becomes in some releases of typer
            code = 130
        except WeightsMissing as error:
            code = _fail(_missing(error))
        except MissingFilesError as error:
            code = _fail(error.what)
            print(error.tree, file=sys.stderr)
        # What the packages raise on bad input, missing files, full disks.
        except (ValueError, OSError) as error:
            code = _fail(str(error), 1 if isinstance(error, OutOfSpaceError) else 2)
        if standalone_mode:
            sys.exit(code or 0)
        return code

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        try:
            return super().resolve_command(ctx, args)
        except UsageError:
            raise ValueError(f"no command {args[0]!r}, expected one of {', '.join(self.commands)}") from None


def _fail(message: str, code: int = 2) -> int:
    print(f"emerseg: error: {printable(' '.join(message.split()))}", file=sys.stderr)
    return code


def _missing(error: WeightsMissing) -> str:
    """The error's own words, and the command that fetches what is missing."""
    return f"{error}; `emerseg download {error.preset or 'PRESET'}` fetches it once"


app = typer.Typer(
    cls=_OneLineErrors,
    help="Open-vocabulary segmentation: images and labels in, labelled masks and COCO annotations out.",
    invoke_without_command=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
app.command()(segment)
app.command()(masks)
app.command()(relabel)
app.command()(validate)
app.command()(convert)
app.command()(merge)
app.command("eval")(evaluate)
app.command()(adapt)
app.command()(batch)
app.command()(serve)
app.command()(web)


@app.callback()
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        from ground.versions import own_version

        print(own_version())
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit


@app.command()
def download(
    preset: Annotated[str, typer.Argument(help="A preset's name (see `emerseg presets`) or YAML file.")],
    overrides: options.Overrides = None,
    verbose: options.Verbose = False,
) -> None:
    """Fetch a preset's weights once, for use without network later."""
    from fusion.cli.console import set_up_output

    set_up_output(verbose=verbose, progress_bars=True)
    from fusion.models.load import download_weights
    from fusion.models.presets import load_preset

    for section, where in download_weights(load_preset(preset, overrides or ())).items():
        print(printable(f"{section}: {where}"))


@app.command()
def presets() -> None:
    """List the presets: what they are, where their weights come from, under which licence."""
    from fusion.models.presets import list_presets, load_preset

    for name in list_presets():
        preset = load_preset(name)
        print(f"{name:15}{preset.description}")
        clip = f"{preset.ovseg.model} with {preset.ovseg.overlay}" if preset.ovseg.overlay else preset.ovseg.model
        models = (("emerdiff", preset.emerdiff.model, preset.emerdiff), ("ovseg", clip, preset.ovseg))
        for section, model, config in models:
            size = f"{config.download_mb} MB to download" if config.download_mb else "no download"
            print(f"{'':15}{section:10}{model}  ({config.license}; {size})")


@app.command()
def labels(
    file: Annotated[str, typer.Argument(help="A label file or comma-separated labels.")],
    background: options.Background = None,
) -> None:
    """Show how a label file is read: category ids, names, synonyms, stuff or thing, colours."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from fusion.cli.console import set_up_output
    from fusion.cli.labels import labels_of, note_kinds
    from fusion.formats.palette import label_colors
    from ovseg.labels import as_labels

    set_up_output(verbose=False)
    given = labels_of(file)
    both = as_labels(given, labels_of(background) if background is not None else ())
    read, other = both[: len(given)], both[len(given) :]
    table = Table("id", "name", "synonyms", "kind", "colour")
    for index, (label, color) in enumerate(zip(read, label_colors(read), strict=True), start=1):
        hexadecimal = "#{:02x}{:02x}{:02x}".format(*color)
        table.add_row(
            str(index),
            escape(printable(label.name)),
            escape(printable(", ".join(label.synonyms))),
            "stuff" if label.stuff else "thing",
            f"[on {hexadecimal}]  [/] {hexadecimal}",
        )
    for label in other:
        table.add_row("0", escape(printable(label.name)), escape(printable(", ".join(label.synonyms))), "other", "")
    Console().print(table)
    note_kinds(read)


@app.command()
def demo(
    output: options.Output = Path("emerseg-demo"),
    device: options.Device = "auto",
    dtype: options.Dtype = Dtype.AUTO,
    threads: options.Threads = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Segment bundled example scenes with the embedded models, and compare with their ground truth. No network."""
    from fusion.cli.console import set_up_output

    set_up_output(verbose=verbose, quiet=quiet)
    use_threads(threads)
    from fusion.cli.demo import show_demo

    show_demo(output, device=device, dtype=dtype, quiet=quiet)


def main() -> None:
    """The console script."""
    wait_briefly()
    safe_streams()
    try:
        app()
    finally:
        gc.freeze()  # at its end Python would look through all that libraries hold, once more
