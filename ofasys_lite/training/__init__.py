"""LightningModule, DataModule, optimizers, callbacks: everything that knows the Lightning framework."""
