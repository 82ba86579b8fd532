"""Random scripts that wait for time to pass.

Steps begin on a grid. Messages and queues live for a time that ends between two steps, also if a
message dies three times in a row: what a step finds does not depend on how fast a broker is. A step
that takes too long ends the script.
"""

import arguments
import generate

# Steps begin this many seconds apart, at least; a step must be over long before the next time ends.
GRID_SECONDS = 0.8
STEP_SECONDS = 0.17
# Seconds that late things have within a step.
PATIENCE_SECONDS = 0.1
# Each ends 200 ms behind the beginning of a step; two in a row 400, three 600.
TIMES_MS = (1000, 1800)


class Writer(generate.Writer):
    """Writes one script in which time matters."""

    paced = True

    def plans(self):
        for plan in super().plans():
            yield plan
            if self.chance(0.3):
                yield self.pause

    def pause(self):
        """Nothing happens for some steps."""
        return {"c": self.at[0], "do": "wait", "ticks": self.dice.choice([1, 2, 2, 3])}

    def queue_arguments(self):
        if self.chance(0.3):
            return {}
        times = (0, *TIMES_MS, *TIMES_MS)
        return arguments.of_queue(self, ttls=times, expires=TIMES_MS) | self.mortality(times)

    def mortality(self, times):
        """Most queues of such scripts lose their messages with the time."""
        return arguments.message_ttl(self, times) if self.chance(0.5) else {}

    def expiration(self):
        return arguments.expiration(self, (0, *TIMES_MS, *TIMES_MS))
