"""From states to ids: automata of what is legal, and search over a step function that knows no generalist.

`automaton` and `options` need numpy only; `search` imports torch.
"""
