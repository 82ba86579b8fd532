"""Scripts, differences and transcripts as text for people."""

import json


def failure(script, outcome):
    """A script that differed: how it can be replayed, what it does, who said what."""
    parts = [f"== seed {script['seed']} differs at step {outcome.steps} of {len(script['steps'])}"]
    parts += [difference(each) for each in outcome.differences]
    parts.append(transcripts(script, outcome))
    parts.append(dumped(script))
    return "\n".join(parts)


def difference(found):
    """One difference."""
    target, key, mine, theirs = found
    lines = [f"-- {target}, {place(key)}"]
    lines += [f"   rabbitmq: {line}" for line in mine] or ["   rabbitmq: nothing"]
    lines += [f"   ringtail: {line}" for line in theirs] or ["   ringtail: nothing"]
    return "\n".join(lines)


def place(key):
    """Where lines came from."""
    connection, channel, kind = key
    return f"connection {connection}, channel {channel}, {kind}"


def transcripts(script, outcome):
    """Every step with what each target said; targets that agree are told once."""
    lines = []
    for index, step in enumerate(script["steps"]):
        lines.append(f"step {index + 1}: {json.dumps(step)}")
        said = {}
        for name, views in outcome.transcripts.items():
            if index < len(views):
                said.setdefault(json.dumps(told(views[index])), []).append(name)
        for text, names in said.items():
            lines.append(f"  {', '.join(names)}:")
            lines += [f"    {line}" for line in json.loads(text)]
    return "\n".join(lines)


def told(view):
    """A view as lines."""
    return [f"{connection}.{channel} {kind}: {line}"
            for (connection, channel, kind), found in sorted(view.items(), key=str)
            for line in found]


def dumped(script):
    """A script as it is kept: a line for each step."""
    steps = ",\n  ".join(json.dumps(step) for step in script["steps"])
    head = {key: value for key, value in script.items() if key != "steps"}
    return f"{json.dumps(head)[:-1]}, \"steps\": [\n  {steps}]}}"
