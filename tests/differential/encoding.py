"""Operations of a script as bytes, and the bytes of a broker as frames and lines of text."""

import datetime
import re
import struct
import zlib

import pika
from pika import frame, spec

END = b"\xce"
METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
FILLER = bytes(range(256)) * 1024


def spelt(name):
    """`Basic.RecoverAsync` as scripts and transcripts spell it: `basic.recover-async`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name).lower()


CLASSES = {spelt(kind.NAME): kind for kind in spec.methods.values()}
NAMES = {index: spelt(kind.NAME) for index, kind in spec.methods.items()}


def method(channel, name, arguments):
    """The frame of a method."""
    return frame.Method(channel, CLASSES[name](**arguments)).marshal()


def body(ident, size):
    """A body that tells who it is, as far as it has room."""
    return (f"{ident}|".encode() + FILLER)[:size]


def publish(channel, arguments, data, frame_max, properties, cut=None):
    """The frames of a publish; `cut` makes body frames smaller than they need be."""
    parts = [method(channel, "basic.publish", arguments)]
    parts.append(frame.Header(channel, len(data), pika.BasicProperties(**properties)).marshal())
    room = min(frame_max - 8, cut or frame_max)
    for start in range(0, len(data), room):
        parts.append(raw_frame(BODY, channel, data[start:start + room]))
    return b"".join(parts)


def raw_frame(kind, channel, payload, end=END):
    """A frame of any type, payload and end."""
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + end


class Splitter:
    """Cuts what a socket brings into frames."""

    def __init__(self):
        self.rest = b""

    def frames(self, received):
        """Yields type, channel and payload of each frame that is whole."""
        data = self.rest + received if self.rest else received
        at, end = 0, len(data)
        while end - at >= 8:
            kind, channel, size = struct.unpack_from(">BHI", data, at)
            if end - at < size + 8:
                break
            assert data[at + 7 + size] == 0xCE, f"frame end {data[at + 7 + size]:#x}"
            yield kind, channel, data[at + 7:at + 7 + size]
            at += size + 8
        self.rest = data[at:]


def decoded(payload):
    """Name and arguments of a method's payload."""
    (index,) = struct.unpack_from(">I", payload)
    value = spec.methods[index]()
    value.decode(payload, 4)
    return NAMES[index], vars(value)


def line(name, fields, skip=()):
    """A method as a line of a transcript."""
    shown = [f"{key}={value}" for key, value in sorted(fields.items()) if key not in skip]
    return " ".join([name, *shown])


def content_line(header, data):
    """A content as a line: its size, its first bytes, its checksum, its properties."""
    start = data[:12].decode("latin-1").split("|")[0]
    return f"size={len(data)} starts={start!r} crc={zlib.crc32(data):08x} {properties(header)}"


def told_death(deaths):
    """Deaths without their times; one that is not of now is told."""
    if not isinstance(deaths, list):
        return deaths
    return [{**death, "time": "recent"} if recent(death) else death for death in deaths]


def recent(death):
    """Whether the time of a death is one of the last minutes."""
    at = death.get("time") if isinstance(death, dict) else None
    if not isinstance(at, datetime.datetime):
        return False
    now = datetime.datetime.now(datetime.timezone.utc)
    return abs(now - at.replace(tzinfo=at.tzinfo or datetime.timezone.utc)).total_seconds() < 120


def properties(header):
    """The properties of a header's payload, by name."""
    given = pika.BasicProperties()
    given.decode(header[12:])
    shown = {key: value for key, value in vars(given).items() if value is not None}
    if "headers" in shown:
        shown["headers"] = sorted((name, told_death(value) if name == "x-death" else value)
                                  for name, value in shown["headers"].items()
                                  # They came with 3.13.
                                  if not name.startswith("x-last-death-"))
    return " ".join(f"{key}={value!r}" for key, value in sorted(shown.items()))
