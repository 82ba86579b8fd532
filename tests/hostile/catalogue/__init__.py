"""What one client can ask of a broker that is meant to hurt others. The benchmark and the tests take
their attacks from here."""

from . import memory, messages, methods, routing
from .attacker import ATTACKS, MB, Attacker

__all__ = ["ATTACKS", "MB", "Attacker", "memory", "messages", "methods", "routing"]
