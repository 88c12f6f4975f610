"""Scoring tables of any size by a registered model, part by part."""
