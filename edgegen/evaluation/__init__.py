"""Scores of a model's texts: what each measures, how sure it is, and the reports (docs/evaluation.md)."""
