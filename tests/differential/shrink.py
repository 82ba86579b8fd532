"""Makes a script that differs as short as it can be while it still differs."""

PATIENCE_SECONDS = 1.5
TRIALS = 250


def minimised(bench, script, outcome):
    """The shortest script found, and how it went."""
    targets = {name for name, *_ in outcome.differences}
    names = None if "all" in targets else sorted(targets)[:1]
    script = script | {"steps": script["steps"][:max(outcome.steps, 1)]}
    search = Search(bench, names)
    if not search.differs(script):
        return script, outcome
    for shorter in (search.without_steps, search.without_operations, search.without_steps):
        script = shorter(script)
    final = bench.run(script, names)
    return (script, final) if final.differences else (script, outcome)


class Search:
    """Tries shorter scripts on the targets that differed."""

    def __init__(self, bench, names):
        self.bench, self.names = bench, names
        self.left = TRIALS

    def differs(self, script):
        """Whether this script differs, while there are trials left."""
        self.left -= 1
        if self.left < 0:
            return False
        return bool(self.bench.run(script, self.names, PATIENCE_SECONDS).differences)

    def without_steps(self, script):
        """Leaves out steps, in halves, then quarters, and so on."""
        return script | {"steps": self.shortest(
            script["steps"], lambda steps: script | {"steps": steps})}

    def without_operations(self, script):
        """Leaves out operations of steps."""
        for index, step in enumerate(script["steps"]):
            if len(step.get("ops", [])) > 1:
                script = self.shortened(script, index)
        return script

    def shortened(self, script, index):
        steps = script["steps"]

        def with_operations(ops):
            changed = steps[index] | {"ops": ops}
            return script | {"steps": [*steps[:index], changed, *steps[index + 1:]]}

        return with_operations(self.shortest(steps[index]["ops"], with_operations))

    def shortest(self, items, made):
        size = max(len(items) // 2, 1)
        while size:
            at = 0
            while at < len(items):
                fewer = items[:at] + items[at + size:]
                if fewer and self.differs(made(fewer)):
                    items = fewer
                else:
                    at += size
            size //= 2
        return items
