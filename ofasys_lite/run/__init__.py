"""Folders of runs, as trainings, reports and commands see them: where they lie, what stands in them, who may write."""
