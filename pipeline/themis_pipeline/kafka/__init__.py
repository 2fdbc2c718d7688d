"""What speaks to the brokers."""
