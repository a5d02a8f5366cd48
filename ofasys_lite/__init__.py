"""One line of text declares a multi-modal task; one shared encoder-decoder learns all the tasks at once."""

__version__ = "0.1.0.dev0"
