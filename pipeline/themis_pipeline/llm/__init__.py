"""The one way to LLMs: limits, budget, deadline, breaker and journal around OpenAI-compatible endpoints."""
