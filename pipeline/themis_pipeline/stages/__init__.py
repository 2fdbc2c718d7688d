"""What the pipeline does with a record, one file a stage: events in, events out, no Kafka in it."""
