"""Corpora to manifests, manifests to batches."""
