"""From sources to proven machines: plan, journal, steps, runner."""
