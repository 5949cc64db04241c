"""`surgmotion COMMAND`, also `python -m surgmotion_jax COMMAND`."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from types import FrameType

from surgmotion_jax import registry

BAD_INPUT, FAILED, INTERRUPTED, PIPE_CLOSED, TERMINATED = 2, 1, 130, 141, registry.TERMINATED
"""Exit codes; the last three are what a shell makes of SIGINT, SIGPIPE and SIGTERM."""

NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command. Returns its exit code, or one of those above with a line on stderr.

    Where whoever reads the output has gone (`| head -1`), nothing is said.
    """
    try:
        with ended_by_sigterm():
            code = run(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()  # here rather than at the interpreter's end, where a closed pipe cannot be caught
        return code
    except ValueError as error:
        return say(str(error), BAD_INPUT)
    except KeyboardInterrupt:
        return say("interrupted", INTERRUPTED)
    except SystemExit as end:
        if end.code != TERMINATED:
            raise
        return say("stopped by SIGTERM", TERMINATED)
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


@contextlib.contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """While the context is open SIGTERM ends a command as an error does: what was opened is closed, drafts vanish."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def terminate(number: int, frame: FrameType | None) -> None:
    sys.exit(TERMINATED)


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
