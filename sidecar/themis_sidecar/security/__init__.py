"""Who calls, what they may call, and how much they may take."""
