"""The HTTP port as a reward server: what trainers send is turned into a Score call, and its answer back."""
