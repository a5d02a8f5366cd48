"""What all tests share: drawn cases may be slow on a busy machine; how fast things are is measured in benchmarks/."""

from hypothesis import HealthCheck, settings

settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")
