"""A terminal emulator shows the progress bar of a training run, and what Ctrl-C leaves of it."""

import fcntl
import os
import pty
import select
import struct
import termios
import time

import pyte
import pytest

from test_event_files import trainer, write_photos

ROWS = 24
BAR = "░"
TIME_LIMIT = 120
# Steps of a second or more, so that a second Ctrl-C precedes the end of the first step.
ARGUMENTS = ["--data", "photos", "--recipe", "finetune", "--image-size", 224, "--batch-size", 32, "--no-photos"]


class Terminal:
    """A training run in a terminal with this number of columns."""

    def __init__(self, folder, columns):
        command = trainer(*ARGUMENTS)
        self.screen = pyte.Screen(columns, ROWS)
        self.stream = pyte.ByteStream(self.screen)
        self.process, self.file = pty.fork()
        if self.process == 0:
            os.chdir(folder)
            os.execve(command[0], command, {**os.environ, "TERM": "xterm-256color"})
        fcntl.ioctl(self.file, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, columns, 0, 0))
        self.deadline = time.monotonic() + TIME_LIMIT

    def lines(self):
        return [line.rstrip() for line in self.screen.display if line.strip()]

    def read(self):
        """Reads output, and returns whether the process is running."""
        assert time.monotonic() < self.deadline, self.lines()
        if not select.select([self.file], [], [], 0.1)[0]:
            return True
        try:
            output = os.read(self.file, 1 << 16)
        except OSError:  # Linux reports the end in this way.
            return False
        self.stream.feed(output)
        return bool(output)

    def wait_for(self, text):
        while not any(text in line for line in self.lines()):
            assert self.read(), self.lines()

    def interrupt(self):
        os.write(self.file, b"\x03")

    def exit_status(self):
        while self.read():
            pass
        return os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("display")
    write_photos(folder / "photos")
    return folder


@pytest.mark.parametrize("columns", [40, 80, 132])
def test_bar_fits_and_ctrl_c_leaves_no_part_of_it(folder, columns):
    terminal = Terminal(folder, columns)
    terminal.wait_for(BAR)
    (bar,) = [line for line in terminal.lines() if BAR in line]
    assert bar.startswith(("epoch 1/", "1/")) and len(bar) <= columns, terminal.lines()
    terminal.interrupt()
    terminal.wait_for("stopping after this step")
    assert sum(BAR in line for line in terminal.lines()) <= 1, terminal.lines()
    assert terminal.exit_status() == 1
    text = "".join(terminal.lines())
    assert BAR not in text and "^C" not in text and "error: interrupted" in text, terminal.lines()


def test_second_ctrl_c_erases_the_bar(folder):
    terminal = Terminal(folder, 80)
    terminal.wait_for(BAR)
    terminal.interrupt()
    terminal.wait_for("stopping after this step")
    terminal.interrupt()
    assert terminal.exit_status() == 130
    assert terminal.lines()[-1] == "stopped at once" and not any(BAR in line for line in terminal.lines())
