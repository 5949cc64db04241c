"""`surgmotion COMMAND`, also `python -m surgmotion_jax COMMAND`."""

from __future__ import annotations

import errno
import os
import select
import sys
from collections.abc import Sequence

from surgmotion_jax import registry

BAD_INPUT, FAILED, INTERRUPTED, PIPE_CLOSED = 2, 1, 130, 141
"""Exit codes; the last is what a shell makes of SIGPIPE."""

NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command. Returns its exit code, or one of those above with a line on stderr.

    Where whoever reads the output has gone (`| head -1`), nothing is said.
    """
    try:
        code = run(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()  # here rather than at the interpreter's end, where a closed pipe cannot be caught
        return code
    except ValueError as error:
        return say(str(error), BAD_INPUT)
    except KeyboardInterrupt:
        return say("interrupted", INTERRUPTED)
    except OSError as error:
        if isinstance(error, BrokenPipeError) and output_closed():
            return PIPE_CLOSED
        return say(reason(error), FAILED)


def run(arguments: Sequence[str]) -> int:
    """Runs the command that the arguments name, or shows which there are."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(registry.overview())
        return 0
    name, rest = registry.resolve(arguments)
    return registry.load(name)(rest)


def say(text: str, code: int) -> int:
    print(f"surgmotion: {text}", file=sys.stderr)
    return code


def reason(error: OSError) -> str:
    """What the system refused, of which file, and what to do where the disk is full."""
    where = "" if error.filename is None else f"{error.filename}: "
    what = error.strerror or str(error)
    return f"{where}{what}" + ("; make room, then repeat the command" if error.errno in NO_ROOM else "")


def output_closed() -> bool:
    """Whether nobody reads stdout any more. Then what is left in its buffer goes nowhere."""
    try:
        number = sys.stdout.fileno()
    except OSError:  # replaced by something that is no file
        return False
    watcher = select.poll()
    watcher.register(number, select.POLLOUT)
    closed = any(event & (select.POLLERR | select.POLLHUP) for _, event in watcher.poll(0))
    if closed:
        os.dup2(os.open(os.devnull, os.O_WRONLY), number)
    return closed


if __name__ == "__main__":
    sys.exit(main())
