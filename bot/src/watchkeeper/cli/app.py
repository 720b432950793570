"""Commands, their options and their help. What they do is in the modules beside this one."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated

import typer

from watchkeeper import __version__

_EXIT = "\n\nExit status: "

app = typer.Typer(
    name="watchkeeper",
    help="Trading bots that know their true state after any crash.\n\n"
    "Start with `watchkeeper status`. Every command takes `--help`.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
config_app = typer.Typer(no_args_is_help=True, help="A bot's settings.")
app.add_typer(config_app, name="config")

Bot = Annotated[
    str | None,
    typer.Option(
        "--bot",
        metavar="NAME",
        envvar="WATCHKEEPER_BOT",
        help="Which bot. Not needed where there is only one.",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document for machines.")]


class ProgramName(StrEnum):
    """The supervised programs."""

    FEED = "feed"
    STRATEGY = "strategy"
    EXECUTOR = "executor"
    EXECUTOR2 = "executor2"
    RISK = "risk"
    NOTIFIER = "notifier"
    HEALTH = "health"


@app.command(
    help="Show bots, programs, positions and their protection, alerts and the host.\n\n"
    "Reads files, supervisord and systemd only: it answers within 2 seconds also when the bot, "
    "its database or its supervisor do not."
    + _EXIT
    + "0 all is well, 1 something is not, 2 no such bot."
)
def status(
    bot: Bot = None,
    as_json: AsJson = False,
    watch: Annotated[bool, typer.Option("--watch", help="Repeat every 2 s until Ctrl-C.")] = False,
) -> None:
    from watchkeeper.cli import status as command  # noqa: PLC0415

    raise SystemExit(command.main(bot, as_json=as_json, watch=watch))


@app.command(
    help="Examine settings, secrets, clock, venue and key of one bot, and say what mends what is "
    "wrong.\n\nAsks the venue with the bot's own key; sends no order. Run it as root or as the "
    "bot's user." + _EXIT + "0 nothing wrong, 1 warnings, 2 something must be mended."
)
def doctor(bot: Bot = None, as_json: AsJson = False) -> None:
    from watchkeeper.cli import doctor as command  # noqa: PLC0415

    raise SystemExit(command.main(bot, as_json=as_json))


@app.command(
    help="Compare what the bot believes with what its venue says.\n\nWith `--dry-run`: print the "
    "plan and send nothing. Without: ask the running executor for a pass now; it makes one every "
    "minute by itself."
    + _EXIT
    + "0 nothing to do (or asked), 1 the plan holds actions, 2 it cannot be told."
)
def reconcile(
    bot: Bot = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show the plan.")] = False,
    as_json: AsJson = False,
    unblock: Annotated[
        str,
        typer.Option(
            "--unblock",
            metavar="SYMBOL",
            help="Entries in it may go on: whoever says so knows why the venue liquidated (P15).",
        ),
    ] = "",
) -> None:
    from watchkeeper.cli import reconcile as command  # noqa: PLC0415

    raise SystemExit(command.main(bot, dry_run=dry_run, as_json=as_json, unblock=unblock))


@app.command(
    help="Show what the bot does about the rows of the reconciliation matrix that an operator "
    "decides on: row, setting, value, default, meaning."
    + _EXIT
    + "0 shown, 2 the settings are wrong."
)
def policy(bot: Bot = None, as_json: AsJson = False) -> None:
    from watchkeeper.cli import policy as command  # noqa: PLC0415

    raise SystemExit(command.main(bot, as_json=as_json))


@app.command(
    help="Run the health checks of one bot once; the timer does so every 30 s.\n\nA check fails "
    "only after several failures in a row of the timer's. Thresholds: "
    "`/etc/watchkeeper/<bot>/checks.toml`."
    + _EXIT
    + "0 ok, 10 warning, 2 critical, 1 the checks could not be made."
)
def check(
    bot: Bot = None,
    as_json: AsJson = False,
    keep: Annotated[
        bool,
        typer.Option("--remember", help="Count failures in a row, as the timer does.", hidden=True),
    ] = False,
) -> None:
    from watchkeeper.cli import check as command  # noqa: PLC0415

    raise SystemExit(command.main(bot, as_json=as_json, keep=keep))


@app.command(
    help="The kill switch: halt, cancel everything, close every position, prove it.\n\n"
    "Works with the bot stopped, its release deleted, its database broken, its disk full, its "
    "supervisor dead or frozen. Goes on until everything is proven flat, or Ctrl-C. Halted "
    "stays halted until `watchkeeper resume`."
    + _EXIT
    + "0 proven flat (with `--halt-only`: halted), 1 something remains and is listed, 2 no such "
    "bot, or not allowed."
)
def kill(
    bot: Bot = None,
    everyone: Annotated[bool, typer.Option("--all", help="Every bot of this host.")] = False,
    halt_only: Annotated[
        bool,
        typer.Option("--halt-only", help="Open nothing more; positions stay, and protected."),
    ] = False,
    detach: Annotated[
        bool,
        typer.Option("--detach", help="Leave the flattening to systemd (kill@BOT) and return."),
    ] = False,
    receipt: Annotated[
        bool,
        typer.Option("--receipt", help="Do nothing; show what the last pull has come to."),
    ] = False,
    as_json: AsJson = False,
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="Why, for the latch.")
    ] = "kill switch",
    by: Annotated[
        str,
        typer.Option("--by", metavar="WHO", help="Your name, for the latch.", envvar="SUDO_USER"),
    ] = "operator",
) -> None:
    from watchkeeper.cli import kill as command  # noqa: PLC0415

    if receipt:
        raise SystemExit(command.show_receipts(bot, everyone=everyone, as_json=as_json))
    raise SystemExit(
        command.main(
            bot,
            everyone=everyone,
            halt_only=halt_only,
            detach=detach,
            as_json=as_json,
            reason=reason,
            by=by,
        )
    )


@app.command(
    help="Release the HALT latch: only a person may.\n\nShows who halted it and why, "
    "reconciles without sending anything, and asks. Stays halted while belief and venue do not "
    "agree or a flattening is not proven done."
    + _EXIT
    + "0 released or not halted, 1 stays halted, 2 it could not be released."
)
def resume(
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="Why it may trade again, for the latch.")
    ],
    bot: Bot = None,
    everyone: Annotated[bool, typer.Option("--all", help="Every bot that is halted.")] = False,
    by: Annotated[
        str,
        typer.Option("--by", metavar="WHO", help="Your name, for the latch.", envvar="SUDO_USER"),
    ] = "operator",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="Release without looking at the venue, flattened or not."),
    ] = False,
) -> None:
    from watchkeeper.cli import resume as command  # noqa: PLC0415

    raise SystemExit(
        command.main(bot, everyone=everyone, by=by, reason=reason, yes=yes, force=force)
    )


@config_app.command(
    "check",
    help="Validate bot.toml, the strategies' parameters, the secrets' files and the URLs for "
    "alerts.\n\nThe error names the setting. Secrets are looked at only where this user may read "
    "them, and never shown." + _EXIT + "0 valid, 2 something is wrong.",
)
def config_check(
    bot: Bot = None,
    channels: Annotated[
        bool,
        typer.Option(
            help="Whether to look at the URLs for alerts, too. That takes most of a second, which "
            "a starting unit does not wait for."
        ),
    ] = True,
) -> None:
    from watchkeeper.cli import config as command  # noqa: PLC0415

    raise SystemExit(command.main(bot, channels=channels))


@app.command(
    help="Tell the story of an order or a position: intent, orders, fills, stops, and every "
    "decision about them with its row of the matrix and its reason.\n\nThe inputs of each "
    "decision that are still kept are put through the same rules again: the decision must come "
    "out the same. Reads files only."
    + _EXIT
    + "0 told, every replayed decision is the same; 1 one is not; 2 nothing is known of it."
)
def explain(
    subject: Annotated[
        str,
        typer.Argument(
            metavar="ORDER|INTENT|SYMBOL",
            help="A client order id, the venue's order id, an intent's id, or a symbol such as "
            "BTC/USDT:USDT for its open position or what happened there last.",
        ),
    ],
    bot: Bot = None,
    as_json: AsJson = False,
) -> None:
    from watchkeeper.cli import explain as command  # noqa: PLC0415

    raise SystemExit(command.main(bot, subject, as_json=as_json))


@app.command(
    help="Show what a venue's error codes mean, and what the bot does about them.\n\n"
    "`watchkeeper errors 2019` explains one, `watchkeeper errors` lists all."
    + _EXIT
    + "0 shown, 2 no venue documents that code.",
    context_settings={"ignore_unknown_options": True},
)
def errors(
    code: Annotated[
        str | None, typer.Argument(help="With or without its minus sign.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    from watchkeeper.cli import errors as command  # noqa: PLC0415

    raise SystemExit(command.main(code, as_json=as_json))


@app.command(
    help="Run one program of a bot in the foreground, as supervisor does.\n\n"
    "Environment: WATCHKEEPER_BOT, WATCHKEEPER_SLOT (default `blue`), WATCHKEEPER_ROOT."
    + _EXIT
    + "0 stopped by SIGTERM or SIGINT, 1 crashed."
)
def run(program: Annotated[ProgramName, typer.Argument(help="Which program.")]) -> None:
    from watchkeeper.programs.runner import run as run_program  # noqa: PLC0415

    raise SystemExit(run_program(program.value))


@app.command(
    help="Start the paper venue: Binance USD-M on this machine, for tests and demos. "
    "`watchkeeper paper --help` lists its options.",
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    add_help_option=False,
)
def paper(context: typer.Context) -> None:
    from watchkeeper.paper.command import main as command  # noqa: PLC0415

    raise SystemExit(command(context.args))


@app.command(help="Print the version.")
def version() -> None:
    print(__version__)


def main(arguments: Sequence[str]) -> int:
    """Run one command; its exit status."""
    try:
        app(args=list(arguments), prog_name="watchkeeper")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 2
    return 0
