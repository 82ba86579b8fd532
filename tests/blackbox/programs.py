"""Client programs as child processes, whose output is read while they run."""

import subprocess

from support import eventually


class Program:
    """A program that runs; what it writes goes to two files of its own in `folder`."""

    def __init__(self, command, folder, environment=None):
        self.output = folder / f"program-{len(list(folder.iterdir()))}"
        self.errors = self.output.with_suffix(".errors")
        with open(self.output, "wb") as sink, open(self.errors, "wb") as errors:
            self.process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=sink, stderr=errors)

    def text(self):
        """All it wrote so far, on both streams."""
        return self.output.read_text(errors="replace") + self.errors.read_text(errors="replace")

    def finish(self, seconds=40):
        """Waits for the end, which must be a good one. Returns what was not written as an error:
        a library may tell more of those while it ends."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"not at its end within {seconds} s\n{self.text()}") from None
        assert code == 0, self.text()
        return self.output.read_text(errors="replace")

    def says(self, text, times=1):
        """Waits until the output holds the text so often."""

        def said():
            if self.text().count(text) >= times:
                return True
            if self.process.poll() is not None and self.text().count(text) < times:
                raise AssertionError(f"ended without saying {text!r}\n{self.text()}")
            return False

        eventually(said, why=self.text)
        return self

    def kill(self):
        """Ends it at once, if it has not ended."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
