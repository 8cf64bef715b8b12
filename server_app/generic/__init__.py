"""The generic model: evaluation, realignment (GA-FR), analysis, export and model card."""
