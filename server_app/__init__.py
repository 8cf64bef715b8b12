"""The coordinator: fixed frame, sampling, aggregation, global realignment (GA-FR), report."""
