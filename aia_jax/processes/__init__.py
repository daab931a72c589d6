"""Processes and how they end: silent or dead workers, and an end that nothing can hold up."""
