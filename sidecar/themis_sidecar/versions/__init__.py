"""Which judges this server holds, where they come from, and how that changes while it serves."""
