"""Methods compared and tuned under equal conditions: runs, tables, page."""
