"""One file per modality: raw value <-> arrays, on CPU workers. numpy only."""
