"""A broker whose memory is looked at, with settings and a limit of open files of its own."""

import os
import pathlib
import resource

import brokers


class Measured(brokers.Ringtail):
    """`conf` are keys of the configuration file; `files` is the limit of open files."""

    def __init__(self, shards, place, binary, conf=None, files=None, **common):
        super().__init__(shards, place, binary, **common)
        self.conf = conf or {}
        self.files = files

    def command(self):
        file = self.folder / "ringtail.conf"
        file.write_text("".join(f"{key} = {value}\n" for key, value in self.conf.items()))
        return [*super().command(), "--config", str(file)]

    def start(self):
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        super().start()
        if self.files:
            # Not before the start: the broker raises its soft limit to the hard one.
            resource.prlimit(self.process.pid, resource.RLIMIT_NOFILE, (self.files, hard))
        return self

    def rss(self):
        """Octets of memory that the process has in use."""
        pages = pathlib.Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def peak(self):
        """The most that it ever had in use, in octets."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024

    def descriptors(self):
        """How many descriptors it has open."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))
