"""What travels on the topics: how events become records, and how their ids are made."""
