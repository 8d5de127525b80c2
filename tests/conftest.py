"""What all tests share: two CPU devices, strict promotion, and no use of the network."""

from collections import Counter

import jax

# Before the backend starts: laws about shardings need more than one device.
jax.config.update("jax_num_cpu_devices", 2)
# An equation must not lean on implicit dtype promotion, nor keep a tracer.
jax.config.update("jax_numpy_dtype_promotion", "strict")


def pytest_terminal_summary(terminalreporter):
    """Say at the end how many of the frameworks' trajectories ours agree with."""
    passed = [report for report in terminalreporter.stats.get("passed", []) if report.when == "call"]
    agreeing = Counter(value for report in passed for key, value in report.user_properties if key == "agrees with")
    for (framework, cases), count in sorted(agreeing.items(), reverse=True):
        terminalreporter.write_line(f"{framework}: {count} of {cases} cases agree")
