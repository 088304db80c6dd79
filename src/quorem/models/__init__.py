"""The networks, with transformers' parameter names, and the objective that trains two of them together."""
