"""Other people's checkpoints and spellings: what they mean here, or what to use instead."""
