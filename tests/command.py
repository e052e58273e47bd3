"""How a command of the tests ends: an error of ours or of the command line is one line, and a number for the shell."""

import sys

import click

from vkcri.errors import VkcriError


def run(command: click.Command, name: str) -> None:
    """Runs the command with what was typed, and ends the process where it fails: 1 for an error of vkcri.errors,
    click's number for a wrong command line, 130 where a person broke it off."""
    try:
        command(standalone_mode=False)
    except VkcriError as error:
        print(f"{name}: {error}", file=sys.stderr)
        sys.exit(1)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
