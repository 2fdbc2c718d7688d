"""The pipeline: new prompts and reference texts in, labelled records to train a judge on out, by Kafka."""
