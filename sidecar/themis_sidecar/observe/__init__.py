"""What operators see: metrics, traces and the last failures. No text of anybody's prompts or responses is in them."""
