"""What unit tests share: examples are made without a limit on how long each may take."""

from hypothesis import HealthCheck, settings

# A machine that stands still for a moment is no fault of an example. What else holds (in CI: the same examples each
# time) stays as it is. A test that suppresses a check of its own must name `too_slow` again.
settings.register_profile("vkcri", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("vkcri")
