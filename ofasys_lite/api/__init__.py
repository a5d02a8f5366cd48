"""The Python API: Task, GeneralistModel, fit, evaluate, Trainer, OFASys. Import them from `ofasys_lite` itself."""
